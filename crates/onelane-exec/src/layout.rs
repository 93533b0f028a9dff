use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use onelane_core::{AttemptNo, JobId};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::files::{sync_folder, write_durably};

/// The paths of one job. Pure: nothing here touches the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobPaths {
    /// `jobs/<last 2 of id>/<id>`.
    pub job: PathBuf,
}

impl JobPaths {
    /// The paths of this job under a `jobs` folder.
    pub fn new(jobs: &Path, id: JobId) -> Self {
        Self {
            job: jobs.join(id.shard()).join(id.to_string()),
        }
    }

    /// The parameters' files.
    pub fn input(&self) -> PathBuf {
        self.job.join("input")
    }

    /// One run's folder.
    pub fn attempt(&self, attempt: AttemptNo) -> PathBuf {
        self.job.join("attempts").join(attempt.to_string())
    }

    /// One run's standard output.
    pub fn stdout(&self, attempt: AttemptNo) -> PathBuf {
        self.attempt(attempt).join("stdout.log")
    }

    /// One run's standard error.
    pub fn stderr(&self, attempt: AttemptNo) -> PathBuf {
        self.attempt(attempt).join("stderr.log")
    }

    /// One run's results.
    pub fn output(&self, attempt: AttemptNo) -> PathBuf {
        self.attempt(attempt).join("output")
    }

    /// One run's working folder.
    pub fn work(&self, attempt: AttemptNo) -> PathBuf {
        self.attempt(attempt).join("work")
    }
}

/// The data folder can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DataFolderError {
    /// Another server works on it.
    #[error(
        "`{path}` is in use by another onelane server (process {pid})\nhint: stop that one, or give this one another folder with --data"
    )]
    InUse {
        /// The folder.
        path: PathBuf,
        /// What the other server wrote into `server.lock`.
        pid: String,
    },
    /// It is on a network file system, where locks and syncs can't be trusted.
    #[error(
        "`{path}` is on a network file system, where a lock proves nothing\nhint: put the data on a local disk with --data"
    )]
    Network {
        /// The folder.
        path: PathBuf,
    },
    /// Something else.
    #[error("`{path}` can't be used: {source}")]
    Io {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

#[derive(Serialize, Deserialize)]
struct Instance {
    id: String,
}

/// A data folder, held by this one server as long as this value lives.
#[derive(Debug)]
pub struct DataFolder {
    root: PathBuf,
    jobs: PathBuf,
    instance: String,
    _lock: File,
}

impl DataFolder {
    /// Makes the folder where it is missing, and takes it.
    ///
    /// # Errors
    /// [`DataFolderError`] when another server holds it, or it can't be trusted or written.
    pub fn open(root: &Path, jobs: Option<&Path>) -> Result<Self, DataFolderError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| DataFolderError::Io { path, source }
        };
        fs::create_dir_all(root).map_err(at(root))?;
        let root = root.canonicalize().map_err(at(root))?;
        let jobs = jobs.map_or_else(|| root.join("jobs"), Path::to_owned);
        let uploads = root.join("uploads");
        for folder in [&jobs, &uploads] {
            fs::create_dir_all(folder).map_err(at(folder))?;
        }
        let jobs = jobs.canonicalize().map_err(at(&jobs))?;
        refuse_network(&root)?;
        refuse_network(&jobs)?;
        let lock = take_server_lock(&root)?;
        let instance = instance_id(&root).map_err(at(&root))?;
        sync_folder(&root).map_err(at(&root))?;
        Ok(Self {
            root,
            jobs,
            instance,
            _lock: lock,
        })
    }

    /// Takes the folder, and gives it this id where it has none of its own yet: it is made anew from a backup.
    ///
    /// # Errors
    /// As [`DataFolder::open`].
    pub fn open_as(
        root: &Path,
        jobs: Option<&Path>,
        instance: &str,
    ) -> Result<Self, DataFolderError> {
        let at = |source| DataFolderError::Io {
            path: root.to_owned(),
            source,
        };
        if instance_of(root).map_err(at)?.is_none() {
            fs::create_dir_all(root)
                .and_then(|()| write_instance(root, instance))
                .map_err(at)?;
        }
        Self::open(root, jobs)
    }

    /// The folder itself, absolute.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the jobs are, absolute.
    pub fn jobs(&self) -> &Path {
        &self.jobs
    }

    /// Where large inputs arrive.
    pub fn uploads(&self) -> PathBuf {
        self.root.join("uploads")
    }

    /// The store's file.
    pub fn database(&self) -> PathBuf {
        self.root.join("onelane.db")
    }

    /// The folder's own id.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// A name for what this folder's server makes outside of it; a copy of the folder on this machine, which has the
    /// same id, has another.
    ///
    /// # Errors
    /// When the folder can't be looked at.
    pub fn unique_name(&self) -> io::Result<String> {
        use std::os::unix::fs::MetadataExt;
        let folder = fs::metadata(&self.root)?;
        let id = self.instance.get(..12).unwrap_or(&self.instance);
        Ok(format!("{id}-{:x}-{:x}", folder.dev(), folder.ino()))
    }
}

fn take_server_lock(root: &Path) -> Result<File, DataFolderError> {
    let path = root.join("server.lock");
    let io = |source| DataFolderError::Io {
        path: path.clone(),
        source,
    };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(io)?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut pid = String::new();
        file.read_to_string(&mut pid).map_err(io)?;
        return Err(DataFolderError::InUse {
            path: root.to_owned(),
            pid: pid.trim().to_owned(),
        });
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(io)?;
    Ok(file)
}

/// A data folder's own id, if it has one yet.
pub fn instance_of(root: &Path) -> io::Result<Option<String>> {
    match fs::read(root.join("instance.json")) {
        Ok(bytes) => Ok(Some(serde_json::from_slice::<Instance>(&bytes)?.id)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn instance_id(root: &Path) -> io::Result<String> {
    if let Some(id) = instance_of(root)? {
        return Ok(id);
    }
    let id = random_hex()?;
    write_instance(root, &id)?;
    Ok(id)
}

fn write_instance(root: &Path, id: &str) -> io::Result<()> {
    let instance = Instance { id: id.to_owned() };
    write_durably(&root.join("instance.json"), &serde_json::to_vec(&instance)?)
}

pub(crate) fn random_hex() -> io::Result<String> {
    let mut bytes = [0_u8; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// Magic numbers of file systems that are shared between machines (statfs(2), linux/magic.h):
/// NFS, CIFS, SMB2, SMB, Lustre, Ceph, 9P.
const NETWORK: [u32; 7] = [
    0x6969,
    0xFF53_4D42,
    0xFE53_4D42,
    0x517B,
    0x0BD0_0BD0,
    0x00C3_6400,
    0x0102_1997,
];

/// Whether a folder is on a file system that is shared between machines, where locks and syncs can't be trusted.
pub fn is_on_network(folder: &Path) -> io::Result<bool> {
    let magic = rustix::fs::statfs(folder)?.f_type;
    // The field's width differs between machines; the numbers fit 32 bits on all of them.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "magic numbers are 32 bits wide"
    )]
    let magic = magic as u32;
    Ok(NETWORK.contains(&magic))
}

fn refuse_network(folder: &Path) -> Result<(), DataFolderError> {
    let path = folder.to_owned();
    match is_on_network(folder) {
        Ok(true) => Err(DataFolderError::Network { path }),
        Ok(false) => Ok(()),
        Err(source) => Err(DataFolderError::Io { path, source }),
    }
}
