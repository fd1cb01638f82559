//! A remote object as a file one can read anywhere in: fixed blocks are fetched when touched and the last few are kept, so
//! that a parquet reader's many small reads cost few requests and memory stays bounded.

use super::{Object, failed, wait};
use bytes::{Bytes, BytesMut};
use curate_core::Result;
use object_store::ObjectStoreExt;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::sync::{Arc, Mutex, PoisonError};

const BLOCK_BYTES: u64 = 1 << 20;
const BLOCKS_KEPT: usize = 32;

/// A remote object of known size.
#[derive(Debug)]
pub(crate) struct RemoteFile {
    object: Object,
    size: u64,
    blocks: Mutex<VecDeque<(u64, Bytes)>>,
}

impl RemoteFile {
    pub(crate) fn new(object: Object, size: u64) -> Self {
        Self { object, size, blocks: Mutex::default() }
    }

    fn fetch(&self, start: u64, end: u64) -> Result<Bytes> {
        let (store, path) = (Arc::clone(&self.object.store), self.object.path.clone());
        wait(async move { store.get_range(&path, start..end).await })?.map_err(|e| failed(e, &self.object.url))
    }

    fn block(&self, index: u64) -> Result<Bytes> {
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = blocks.iter().position(|(i, _)| *i == index)
            && let Some(found) = blocks.remove(at)
        {
            blocks.push_back(found.clone());
            return Ok(found.1);
        }
        drop(blocks);
        let start = index * BLOCK_BYTES;
        let bytes = self.fetch(start, (start + BLOCK_BYTES).min(self.size))?;
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        if blocks.len() >= BLOCKS_KEPT {
            blocks.pop_front();
        }
        blocks.push_back((index, bytes.clone()));
        Ok(bytes)
    }

    /// What the object holds from `start`, at most `length` bytes.
    pub(crate) fn read(&self, start: u64, length: u64) -> Result<Bytes> {
        let end = start.saturating_add(length).min(self.size);
        if start >= end {
            return Ok(Bytes::new());
        }
        if end - start > 4 * BLOCK_BYTES {
            return self.fetch(start, end);
        }
        let mut parts = Vec::new();
        for index in start / BLOCK_BYTES..=(end - 1) / BLOCK_BYTES {
            let (block, base) = (self.block(index)?, index * BLOCK_BYTES);
            let from = usize::try_from(start.max(base) - base).unwrap_or(0);
            let to = usize::try_from(end.min(base + BLOCK_BYTES) - base).unwrap_or(0).min(block.len());
            parts.push(block.slice(from.min(to)..to));
        }
        if parts.len() == 1 {
            return Ok(parts.remove(0));
        }
        let mut whole = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
        for part in &parts {
            whole.extend_from_slice(part);
        }
        Ok(whole.freeze())
    }
}

/// A file that is read anywhere in, local or remote.
#[derive(Clone)]
pub(crate) enum Random {
    Local(Arc<File>),
    Remote(Arc<RemoteFile>),
}

/// Reads on from a position of a [`Random`].
pub(crate) enum Onward {
    Local(BufReader<File>),
    Remote(Arc<RemoteFile>, u64),
}

impl Read for Onward {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Local(file) => file.read(out),
            Self::Remote(file, at) => {
                let bytes = file.read(*at, out.len() as u64).map_err(io::Error::other)?;
                out[..bytes.len()].copy_from_slice(&bytes);
                *at += bytes.len() as u64;
                Ok(bytes.len())
            }
        }
    }
}

impl Length for Random {
    fn len(&self) -> u64 {
        match self {
            Self::Local(file) => file.len(),
            Self::Remote(file) => file.size,
        }
    }
}

impl ChunkReader for Random {
    type T = Onward;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Onward> {
        match self {
            Self::Local(file) => file.get_read(start).map(Onward::Local),
            Self::Remote(file) => Ok(Onward::Remote(Arc::clone(file), start)),
        }
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        match self {
            Self::Local(file) => file.get_bytes(start, length),
            Self::Remote(file) => {
                let bytes = file.read(start, length as u64).map_err(|e| ParquetError::External(Box::new(e)))?;
                if bytes.len() < length {
                    return Err(ParquetError::EOF(format!("{} bytes instead of {length} at {start}", bytes.len())));
                }
                Ok(bytes)
            }
        }
    }
}
