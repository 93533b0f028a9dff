//! Writes headers and sequences in lines of one width.

use std::io::{self, BufWriter, Write};

/// Residues on a line.
const WIDTH: usize = 60;

pub(crate) struct Wrapped<W: Write> {
    out: BufWriter<W>,
    filled: usize,
}

impl<W: Write> Wrapped<W> {
    pub(crate) fn new(out: W) -> Self {
        Self {
            out: BufWriter::new(out),
            filled: 0,
        }
    }

    pub(crate) fn header(&mut self, text: &str) -> io::Result<()> {
        self.end_line()?;
        writeln!(self.out, ">{text}")
    }

    pub(crate) fn residue(&mut self, letter: u8) -> io::Result<()> {
        if self.filled == WIDTH {
            self.end_line()?;
        }
        self.filled += 1;
        self.out.write_all(&[letter])
    }

    pub(crate) fn residues(&mut self, mut letters: &[u8]) -> io::Result<()> {
        while !letters.is_empty() {
            if self.filled == WIDTH {
                self.end_line()?;
            }
            let (now, later) = letters.split_at(letters.len().min(WIDTH - self.filled));
            self.out.write_all(now)?;
            self.filled += now.len();
            letters = later;
        }
        Ok(())
    }

    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.end_line()?;
        self.out.flush()
    }

    fn end_line(&mut self) -> io::Result<()> {
        if self.filled > 0 {
            self.filled = 0;
            self.out.write_all(b"\n")?;
        }
        Ok(())
    }
}
