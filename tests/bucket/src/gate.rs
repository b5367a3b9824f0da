//! What stands between a server and who uses it: open, closed, or cut at a certain byte.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::Result;

const BUFFER_BYTES: usize = 64 * 1024;

/// A gate. Clones are the same.
#[derive(Clone, Debug)]
pub struct Gate {
    address: SocketAddr,
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Debug, Default)]
struct State {
    is_closed: bool,
    /// How much still goes through until it is cut.
    until_cut_bytes: Option<usize>,
    cuts: usize,
    through: Vec<TcpStream>,
}

impl Gate {
    pub(crate) fn before(server: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let gate = Self { address: listener.local_addr()?, state: Arc::default() };
        let shared = gate.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // One that cannot be passed on is closed.
                let _ = shared.pass(client, server);
            }
        });
        Ok(gate)
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts every connection and lets none through.
    pub fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        state.cut();
    }

    /// Lets connections through again.
    pub fn open(&self) {
        let mut state = self.state();
        (state.is_closed, state.until_cut_bytes) = (false, None);
    }

    /// Cuts every connection once so many more bytes went through, to either side; new ones go through.
    pub fn cut_after(&self, bytes: usize) {
        self.state().until_cut_bytes = Some(bytes);
    }

    /// Waits until it has cut so often in all.
    pub fn wait_for_cuts(&self, count: usize) {
        let mut state = self.state();
        while state.cuts < count {
            state = self.state.1.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass(&self, client: TcpStream, server: SocketAddr) -> Result<()> {
        let server = TcpStream::connect(server)?;
        let mut state = self.state();
        if state.is_closed {
            return Ok(());
        }
        state.through.extend([client.try_clone()?, server.try_clone()?]);
        drop(state);
        for (from, to) in [(client.try_clone()?, server.try_clone()?), (server, client)] {
            let gate = self.clone();
            thread::spawn(move || gate.copy(from, to));
        }
        Ok(())
    }

    fn copy(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = vec![0; BUFFER_BYTES];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            if self.is_cut(read) || to.write_all(buffer.get(..read).unwrap_or_default()).is_err() {
                break;
            }
        }
        for stream in [from, to] {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn is_cut(&self, bytes: usize) -> bool {
        let mut state = self.state();
        match state.until_cut_bytes {
            Some(left) if left <= bytes => {
                (state.until_cut_bytes, state.cuts) = (None, state.cuts.saturating_add(1));
                state.cut();
                self.state.1.notify_all();
                true
            }
            Some(left) => {
                state.until_cut_bytes = Some(left.saturating_sub(bytes));
                false
            }
            None => false,
        }
    }
}

impl State {
    fn cut(&mut self) {
        for stream in self.through.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}
