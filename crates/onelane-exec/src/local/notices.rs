//! Wake-ups when files change, by inotify(7). One instance for the whole process: to close an instance that has a watch
//! takes the kernel milliseconds, and to take a watch off one that stays takes microseconds.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use tokio::sync::watch;

struct Hub {
    inotify: Inotify,
    watches: Mutex<HashMap<WatchDescriptor, Watched>>,
}

struct Watched {
    told: watch::Sender<()>,
    subscribers: usize,
}

impl Watched {
    fn tell(&self) {
        self.told.send_replace(());
    }
}

static HUB: Mutex<Option<Arc<Hub>>> = Mutex::new(None);

/// Notices about one file or folder, as long as this lives.
pub(crate) struct Notices {
    hub: Arc<Hub>,
    watch: WatchDescriptor,
    told: watch::Receiver<()>,
}

impl Hub {
    /// The process's own, with a thread that reads it.
    fn get() -> io::Result<Arc<Self>> {
        let mut hub = HUB.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hub) = &*hub {
            return Ok(hub.clone());
        }
        let new = Arc::new(Self {
            inotify: Inotify::init(InitFlags::IN_CLOEXEC)?,
            watches: Mutex::default(),
        });
        let reader = new.clone();
        let thread = std::thread::Builder::new().name("notices".into());
        thread.spawn(move || reader.read())?;
        *hub = Some(new.clone());
        Ok(new)
    }

    fn read(&self) {
        loop {
            match self.inotify.read_events() {
                Ok(events) => self.tell(&events),
                Err(Errno::EINTR) => {}
                Err(error) => {
                    tracing::error!(%error, "changes of files can't be seen any more");
                    // The next one who asks makes another; whoever waits learns that nothing more will come.
                    *HUB.lock().unwrap_or_else(PoisonError::into_inner) = None;
                    self.lock().clear();
                    return;
                }
            }
        }
    }

    fn tell(&self, events: &[InotifyEvent]) {
        let watches = self.lock();
        for event in events {
            if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                // Nobody knows whom the lost ones were for.
                watches.values().for_each(Watched::tell);
            } else if let Some(entry) = watches.get(&event.wd) {
                entry.tell();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<WatchDescriptor, Watched>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Notices {
    /// When something is written to this file.
    pub(crate) fn of_writes(file: &Path) -> io::Result<Self> {
        Self::of(file, AddWatchFlags::IN_MODIFY)
    }

    /// When something new is in this folder.
    pub(crate) fn of_names(folder: &Path) -> io::Result<Self> {
        Self::of(
            folder,
            AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO,
        )
    }

    fn of(path: &Path, what: AddWatchFlags) -> io::Result<Self> {
        let hub = Hub::get()?;
        let mut watches = hub.lock();
        // The same file gives the same number again.
        let watch = hub.inotify.add_watch(path, what)?;
        let entry = watches.entry(watch).or_insert_with(|| Watched {
            told: watch::Sender::new(()),
            subscribers: 0,
        });
        entry.subscribers += 1;
        let told = entry.told.subscribe();
        drop(watches);
        Ok(Self { hub, watch, told })
    }

    /// Waits for one notice or more since the last call.
    pub(crate) async fn next(&mut self) -> io::Result<()> {
        let ended = |_| io::Error::other("changes of files can't be seen any more");
        self.told.changed().await.map_err(ended)
    }
}

impl Drop for Notices {
    fn drop(&mut self) {
        let mut watches = self.hub.lock();
        let Some(entry) = watches.get_mut(&self.watch) else {
            return;
        };
        entry.subscribers -= 1;
        if entry.subscribers == 0 {
            watches.remove(&self.watch);
            // The file may be gone, and its watch with it.
            self.hub.inotify.rm_watch(self.watch).ok();
        }
    }
}
