//! Looking at a database and copying it without a server, or beside one: reads only.

use std::fs::{self, File};
use std::path::Path;

use onelane_core::{Job, JobId};
use rusqlite::Connection;

use super::fault::{Fault, Outcome, broken, damaged};
use super::rows::{self, job_columns};
use super::{migrations, reader};
use crate::{AttemptRecord, JobInput, Result, StoreError};

/// Setting of a backup: the id of the data folder that it was made from.
const BACKUP_INSTANCE: &str = "backup_instance";
/// So many findings of one kind are listed.
const LISTED: usize = 100;

/// What no sound database has, each as a query that gives sentences.
const INVARIANTS: [&str; 6] = [
    "SELECT 'job ' || lower(hex(id)) || ' has not ended and has no input'
     FROM job WHERE finished_at IS NULL AND seq NOT IN (SELECT job FROM job_input)",
    "SELECT 'job ' || lower(hex(id)) || ' has no record of its attempt ' || attempt
     FROM job WHERE attempt > 0
       AND NOT EXISTS (SELECT 1 FROM attempt WHERE attempt.job = job.seq AND attempt.attempt = job.attempt)",
    "SELECT 'job ' || lower(hex(id)) || ' has a record of an attempt that it has not had'
     FROM job WHERE EXISTS (SELECT 1 FROM attempt WHERE attempt.job = job.seq AND attempt.attempt > job.attempt)",
    "SELECT 'job ' || lower(hex(id)) || ' has left the queue and still waits for another'
     FROM job WHERE state <> 'queued' AND seq IN (SELECT job FROM job_after)",
    "SELECT 'tool definition ' || hash || ' is no JSON' FROM tool_definition WHERE NOT json_valid(definition)",
    "SELECT 'job ' || lower(hex(job.id)) || ' has an input that is no JSON'
     FROM job_input JOIN job ON job.seq = job_input.job
     WHERE NOT (json_valid(params) AND json_valid(files) AND json_valid(notes))",
];

/// All jobs, as they came.
const JOBS: &str = concat!("SELECT ", job_columns!(), " FROM job ORDER BY seq");

/// A database that is only looked at.
#[derive(Debug)]
pub struct Inspection {
    db: Connection,
}

impl Inspection {
    /// Opens the file for reading; a server may be at work on it.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] and [`StoreError::Damaged`] as a server would have.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.exists() {
            return Err(StoreError::Unusable {
                path: path.to_owned(),
                why: "there is no such file".into(),
            });
        }
        let db = reader::connect(path).map_err(|e| broken("can't open the database", &e))?;
        migrations::check_known(&db, path)?;
        Ok(Self { db })
    }

    /// Checks the file's structure, its references and Onelane's own rules; gives what is wrong, as sentences.
    ///
    /// # Errors
    /// When the file can't be read at all.
    pub fn problems(&self) -> Result<Vec<String>> {
        let mut found = self.sentences("PRAGMA integrity_check(100)")?;
        found.retain(|line| line != "ok");
        if !found.is_empty() {
            // The queries below would stumble over the same damage.
            return Ok(found);
        }
        let dangling =
            "SELECT 'a row of ' || \"table\" || ' refers to a row of ' || parent || ' that is not there'
             FROM pragma_foreign_key_check";
        for query in std::iter::once(dangling).chain(INVARIANTS) {
            found.extend(self.sentences(query)?);
        }
        Ok(found)
    }

    fn sentences(&self, query: &str) -> Result<Vec<String>> {
        let read = || -> Outcome<Vec<String>> {
            let mut statement = self.db.prepare(query)?;
            let rows = statement.query_map([], |row| row.get(0))?;
            Ok(rows.take(LISTED).collect::<rusqlite::Result<_>>()?)
        };
        match read().map_err(StoreError::from) {
            // A check that stumbles has found something.
            Err(StoreError::Damaged { why, .. }) => Ok(vec![why]),
            other => other,
        }
    }

    /// Shows each job, oldest first.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn each_job(&self, mut see: impl FnMut(Job)) -> Result<()> {
        let walk = || -> Outcome<()> {
            let mut statement = self.db.prepare(JOBS)?;
            for job in statement.query_map([], rows::job)? {
                see(job?);
            }
            Ok(())
        };
        Ok({ walk }()?)
    }

    /// One job, as it is now.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn job(&self, id: JobId) -> Result<Option<Job>> {
        Ok(reader::job(&self.db, id)?)
    }

    /// A job's input.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn input(&self, id: JobId) -> Result<Option<JobInput>> {
        Ok(reader::input(&self.db, id)?)
    }

    /// A job's attempts.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn attempts(&self, id: JobId) -> Result<Vec<AttemptRecord>> {
        Ok(reader::attempts(&self.db, id)?)
    }

    /// The id of the data folder that this file is a backup of; nothing if it is no backup.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn backup_of(&self) -> Result<Option<String>> {
        Ok(reader::setting(&self.db, BACKUP_INSTANCE)?)
    }
}

/// Writes a consistent copy of the database to `copy`, which must not be there, and syncs it. A server may be at work on
/// the original. The copy says which data folder (`instance`) it is from.
///
/// # Errors
/// When the original can't be read or the copy not written; then `copy` may be there in part.
pub fn copy(original: &Path, copy: &Path, instance: &str) -> Result<()> {
    let source = Inspection::open(original)?;
    let target = copy.to_string_lossy();
    execute(&source.db, "VACUUM INTO ?1", &[&*target])?;
    {
        let db = migrations::connect(copy)?;
        execute(
            &db,
            "INSERT INTO setting (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            &[BACKUP_INSTANCE, instance],
        )?;
    }
    let problems = Inspection::open(copy)?.problems()?;
    if let Some(first) = problems.first() {
        return Err(damaged(copy, first));
    }
    let file = File::open(copy).and_then(|file| file.sync_all());
    file.map_err(|e| broken("can't sync the copy", &e))
}

fn execute(db: &Connection, sql: &str, values: &[&str]) -> Result<()> {
    db.execute(sql, rusqlite::params_from_iter(values))
        .map(drop)
        .map_err(|error| Fault::from(error).into())
}

/// The files of a database, as far as they are there: the file itself, its log and the log's index.
pub fn files(database: &Path) -> Vec<std::path::PathBuf> {
    let with = |end: &str| {
        let mut name = database.as_os_str().to_owned();
        name.push(end);
        std::path::PathBuf::from(name)
    };
    let all = ["", "-wal", "-shm"].map(with);
    all.into_iter()
        .filter(|path| fs::exists(path).unwrap_or(true))
        .collect()
}
