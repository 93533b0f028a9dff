//! A store with millions of jobs, without submitting them one by one: with the server down, copies of a real job's rows.

use std::path::Path;

use anyhow::Context;
use rusqlite::{Connection, params};

/// Rows that share a transaction.
const CHUNK: u64 = 50_000;

/// Makes `count` more jobs like the one with this `seq`, in whatever state it is. Gives the first new `seq`.
pub(crate) fn multiply(database: &Path, template: i64, count: u64) -> anyhow::Result<i64> {
    let mut db = Connection::open(database)?;
    // Nothing here has to survive a crash but what is there at the end.
    db.execute_batch(
        "PRAGMA synchronous = OFF; PRAGMA cache_size = -400000; PRAGMA temp_store = MEMORY;",
    )?;
    let first: i64 = db.query_row("SELECT max(seq) + 1 FROM job", [], |row| row.get(0))?;
    let changed: i64 =
        db.query_row("SELECT max(changed_seq) + 1 FROM job", [], |row| row.get(0))?;
    let job = copy_of(
        &db,
        "job",
        "seq",
        &[
            ("seq", "?2"),
            ("id", "?3"),
            ("id_tail", "?4"),
            ("order_key", "order_key - seq + ?2"),
            ("changed_seq", "?5"),
        ],
    )?;
    let input = copy_of(&db, "job_input", "job", &[("job", "?2")])?;
    let attempt = copy_of(&db, "attempt", "job", &[("job", "?2")])?;
    let mut made = 0;
    while made < count {
        let transaction = db.transaction()?;
        for number in made..count.min(made + CHUNK) {
            let number = i64::try_from(number)?;
            let (seq, id) = (first + number, id_of(first + number));
            transaction.prepare_cached(&job)?.execute(params![
                template,
                seq,
                id,
                id_tail(&id),
                changed + number
            ])?;
            transaction
                .prepare_cached(&input)?
                .execute([template, seq])?;
            transaction
                .prepare_cached(&attempt)?
                .execute([template, seq])?;
        }
        transaction.commit()?;
        made += CHUNK;
    }
    // The store counts changes from there.
    db.execute(
        "UPDATE high_water SET value = max(value, (SELECT max(changed_seq) FROM job)) WHERE name = 'changed_seq'",
        [],
    )?;
    db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?;
    std::fs::File::open(database)?.sync_all()?;
    Ok(first)
}

/// `INSERT … SELECT` of a row (the one whose `key` is the first parameter), with these columns changed.
fn copy_of(
    db: &Connection,
    table: &str,
    key: &str,
    changed: &[(&str, &str)],
) -> anyhow::Result<String> {
    let mut names = Vec::new();
    let mut statement = db.prepare(&format!("SELECT name FROM pragma_table_info('{table}')"))?;
    for name in statement.query_map([], |row| row.get::<_, String>(0))? {
        names.push(name?);
    }
    let values = names.iter().map(|name| {
        let change = changed.iter().find(|(column, _)| column == name);
        change.map_or(name.as_str(), |(_, value)| value)
    });
    let values: Vec<_> = values.collect();
    Ok(format!(
        "INSERT INTO {table} ({}) SELECT {} FROM {table} WHERE {key} = ?1",
        names.join(", "),
        values.join(", ")
    ))
}

/// A `UUIDv7` whose random part is spread like a random one's, and differs for each `seq`.
fn id_of(seq: i64) -> [u8; 16] {
    let mut id = [0; 16];
    let time = 1_700_000_000_000_i64 + seq;
    id[..6].copy_from_slice(&time.to_be_bytes()[2..]);
    let mut number = seq.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15);
    number ^= number >> 29;
    let random = number.wrapping_mul(0xbf58_476d_1ce4_e5b9).to_be_bytes();
    id[8..].copy_from_slice(&random);
    id[6] = 0x70;
    id[8] = 0x80 | (id[8] & 0x3f);
    id
}

/// The store's column of that name: the last eight hexadecimal digits, the very last one weighing most.
fn id_tail(id: &[u8; 16]) -> i64 {
    let tail = id[12..].iter().rev();
    tail.fold(0, |number, byte| {
        (number << 8) | i64::from(byte.rotate_left(4))
    })
}

/// The text form of a job's id.
pub(crate) fn id_text(database: &Path, seq: i64) -> anyhow::Result<String> {
    let db = Connection::open(database)?;
    let sql = "SELECT lower(hex(id)) FROM job WHERE seq = ?1";
    let hex: String = db
        .query_row(sql, [seq], |row| row.get(0))
        .with_context(|| format!("there is no job with seq {seq}"))?;
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    Ok(parts.join("-"))
}
