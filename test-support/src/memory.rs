//! Looks for secrets in this process's own memory (Linux).

use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// Something to look for, kept masked so that looking does not find itself.
pub struct Needle {
    pub name: &'static str,
    masked: Vec<u8>,
}

const MASK: u8 = 0xa5;

impl Needle {
    /// From hexadecimal digits of the bytes, each xored with 0xa5.
    pub fn masked_hex(name: &'static str, hex: &str) -> Self {
        let digits: Vec<u32> = hex.chars().map(|c| c.to_digit(16).unwrap()).collect();
        let masked = digits.chunks(2).map(|d| (d[0] * 16 + d[1]) as u8).collect();
        Self { name, masked }
    }

    /// Bytes that only a test of this number can mean.
    pub fn numbered(name: &'static str, number: u8) -> Self {
        let masked = (0..48_u8)
            .map(|i| i.wrapping_mul(29).wrapping_add(number) ^ (i << 3) ^ 0x63)
            .collect();
        Self { name, masked }
    }

    /// Only so many of its bytes.
    pub fn first(mut self, len: usize) -> Self {
        self.masked.truncate(len);
        self
    }

    /// The bytes in clear, written where the caller says.
    pub fn reveal(&self, out: &mut Vec<u8>) {
        out.extend(self.masked.iter().map(|byte| byte ^ MASK));
    }

    /// How often they stand in memory now, or their second half at least: the allocator writes over
    /// the beginning of what is freed.
    pub fn count(&self) -> usize {
        let memory = File::open("/proc/self/mem").unwrap();
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let mut chunk = vec![0; CHUNK];
        // Reading the buffer into itself would find what was read before it.
        let own = chunk.as_ptr() as u64;
        let own = own..own + CHUNK as u64;
        let regions = maps.lines().filter_map(writable);
        let parts = regions.flat_map(|region| {
            let before = region.start..region.end.min(own.start).max(region.start);
            let after = region.start.max(own.end).min(region.end)..region.end;
            let touches = region.start < own.end && own.start < region.end;
            if touches {
                [before, after]
            } else {
                [region.clone(), region.end..region.end]
            }
        });
        let (_, half) = self.masked.split_at(self.masked.len() / 2);
        let mut count = 0;
        for part in parts {
            let mut at = part.start;
            while at < part.end {
                let want = usize::try_from(part.end - at).unwrap().min(CHUNK);
                let Ok(got) = memory.read_at(&mut chunk[..want], at) else {
                    break;
                };
                count += count_of(half, &chunk[..got]);
                chunk.fill(0);
                if got < want || at + want as u64 == part.end {
                    break;
                }
                // Overlapping, so that nothing hides on the border.
                at += (want - half.len() + 1) as u64;
            }
        }
        count
    }
}

fn count_of(masked: &[u8], bytes: &[u8]) -> usize {
    let first = masked[0] ^ MASK;
    let mut count = 0;
    let mut rest = bytes;
    while let Some(at) = memchr(first, rest) {
        let found = rest[at..]
            .iter()
            .zip(masked)
            .take_while(|(byte, masked)| **byte == **masked ^ MASK)
            .count();
        count += usize::from(found == masked.len());
        rest = &rest[at + 1..];
    }
    count
}

const CHUNK: usize = 1 << 20;

/// The standard library's search is compiled with optimisation, our loops in tests are not.
fn memchr(byte: u8, bytes: &[u8]) -> Option<usize> {
    bytes
        .contains(&byte)
        .then(|| bytes.iter().position(|b| *b == byte))?
}

fn writable(line: &str) -> Option<Range<u64>> {
    let mut words = line.split_whitespace();
    let (range, permissions) = (words.next()?, words.next()?);
    if !permissions.starts_with("rw") || line.ends_with("[vvar]") {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let number = |hex| u64::from_str_radix(hex, 16).ok();
    Some(number(start)?..number(end)?)
}
