//! Jobs that take all they can get, for a server to be measured beside. They run until they are killed.

use std::fs::File;
use std::hint::black_box;
use std::io::{Seek, SeekFrom, Write};

use clap::ValueEnum;

/// What a hog takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Hog {
    /// Every core.
    Cpu,
    /// Memory bandwidth on every core, and the disk by synced writes.
    MemoryDisk,
}

const ARRAY_WORDS: usize = 16 << 20;
const FILE_BYTES: usize = 64 << 20;
const CHUNK_BYTES: usize = 1 << 20;

/// Never comes back, but for an error.
pub(crate) fn run(what: Hog) -> anyhow::Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    for _ in 0..cores {
        std::thread::spawn(move || match what {
            // As many again, since a real analysis often brings more threads than there are cores.
            Hog::Cpu => {
                std::thread::spawn(burn);
                burn();
            }
            Hog::MemoryDisk => stream(),
        });
    }
    match what {
        Hog::Cpu => loop {
            std::thread::park();
        },
        Hog::MemoryDisk => write_on(),
    }
}

fn burn() {
    let mut number = 1_u64;
    loop {
        for _ in 0..1 << 20 {
            number = number
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
        }
        black_box(number);
    }
}

/// Through arrays that no cache holds.
fn stream() {
    let mut from = vec![1_u64; ARRAY_WORDS];
    let mut to = vec![0_u64; ARRAY_WORDS];
    loop {
        to.copy_from_slice(black_box(&from));
        std::mem::swap(&mut from, &mut to);
    }
}

/// The same 64 MB again and again, in the current folder, synced each time.
fn write_on() -> anyhow::Result<()> {
    let mut file = File::create("hog.bin")?;
    let chunk = vec![7_u8; CHUNK_BYTES];
    loop {
        file.seek(SeekFrom::Start(0))?;
        for _ in 0..FILE_BYTES / CHUNK_BYTES {
            file.write_all(&chunk)?;
        }
        file.sync_data()?;
    }
}
