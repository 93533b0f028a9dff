use rusqlite::ffi;

use crate::StoreError;

/// What went wrong inside: an answer for the caller, or a failure of `SQLite` whose code decides what it ends.
#[derive(Debug)]
pub(super) enum Fault {
    /// Concerns this command only.
    Told(StoreError),
    /// `SQLite`'s own word.
    Sqlite(rusqlite::Error),
}

pub(super) type Outcome<T> = Result<T, Fault>;

impl Fault {
    /// True when the transaction can't go on, so that all commands of the group fail together.
    pub(super) fn ends_group(&self) -> bool {
        self.is_full() || self.is_io() || self.is_unwritable()
    }

    pub(super) fn is_full(&self) -> bool {
        self.code() == Some(rusqlite::ErrorCode::DiskFull)
    }

    pub(super) fn is_io(&self) -> bool {
        self.code() == Some(rusqlite::ErrorCode::SystemIoFailure)
    }

    /// A sync of the file or its folder failed: the page cache can't be trusted any more.
    pub(super) fn is_sync(&self) -> bool {
        let Self::Sqlite(error) = self else {
            return false;
        };
        let code = error.sqlite_error().map(|error| error.extended_code);
        matches!(
            code,
            Some(ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC)
        )
    }

    /// A write was refused, and nothing says that an earlier one is lost.
    fn is_unwritable(&self) -> bool {
        let Self::Sqlite(error) = self else {
            return false;
        };
        let code = error.sqlite_error().map(|error| error.extended_code);
        self.code() == Some(rusqlite::ErrorCode::ReadOnly) || code == Some(ffi::SQLITE_IOERR_WRITE)
    }

    /// The same for each command of a group; an error can't be shared.
    pub(super) fn for_all(&self) -> StoreError {
        if self.is_full() {
            return StoreError::Full;
        }
        match self {
            Self::Told(error) => StoreError::Broken(error.to_string()),
            Self::Sqlite(error) if self.is_unwritable() => {
                StoreError::Unwritable(error.to_string())
            }
            Self::Sqlite(error) => StoreError::Broken(error.to_string()),
        }
    }

    fn code(&self) -> Option<rusqlite::ErrorCode> {
        match self {
            Self::Told(_) => None,
            Self::Sqlite(error) => error.sqlite_error_code(),
        }
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Told(error)
    }
}

impl From<serde_json::Error> for Fault {
    fn from(error: serde_json::Error) -> Self {
        Self::Told(StoreError::Broken(format!("damaged JSON: {error}")))
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Told(error) => error,
            other @ Fault::Sqlite(_) => other.for_all(),
        }
    }
}

/// A thing outside of `SQLite` failed, such as a thread that would not start.
pub(super) fn broken(what: &str, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Broken(format!("{what}: {error}"))
}

/// After a failed sync the kernel may have dropped the dirty pages and a second sync would report success, so nothing
/// that this process says about durability can be believed any more. The next process reads what is really there.
pub(super) fn abort(what: &str, fault: &Fault) -> ! {
    tracing::error!(fault = ?fault, "{what} failed with an I/O error: ending at once, since written data may be lost");
    std::process::abort()
}
