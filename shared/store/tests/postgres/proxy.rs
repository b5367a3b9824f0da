//! A proxy between a store and its database that cuts a connection at a commit.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// What of a commit is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// It was carried out, and the answer does not arrive.
    Answer,
    /// It does not reach the server.
    Question,
}

pub(crate) struct Proxy {
    port: u16,
    /// After how many commits that pass.
    next: Arc<Mutex<Option<(u32, Cut)>>>,
    has_cut: Arc<AtomicBool>,
    garbles: Arc<AtomicBool>,
}

/// As the client sends it: a simple query.
const COMMIT: &[u8] = b"COMMIT\0";
/// What begins a transaction that may write.
const BEGIN: &[u8] = b"BEGIN ISOLATION LEVEL SERIALIZABLE";

impl Proxy {
    pub(crate) fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let proxy = Self { port, next: Arc::default(), has_cut: Arc::default(), garbles: Arc::default() };
        let (next, has_cut, garbles) =
            (Arc::clone(&proxy.next), Arc::clone(&proxy.has_cut), Arc::clone(&proxy.garbles));
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), TcpStream::connect(("127.0.0.1", server)).unwrap());
                let (next, has_cut, garbles) =
                    (Arc::clone(&next), Arc::clone(&has_cut), Arc::clone(&garbles));
                let is_mute = Arc::new(AtomicBool::new(false));
                let (back, to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                let muted = Arc::clone(&is_mute);
                thread::spawn(move || answers(back, to, &muted));
                thread::spawn(move || questions(client, server, &next, &has_cut, &garbles, &is_mute));
            }
        });
        proxy
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Only what may write is committed.
    pub(crate) fn cut_next_commit(&self, cut: Cut) {
        self.cut_commit_after(0, cut);
    }

    pub(crate) fn cut_commit_after(&self, passing: u32, cut: Cut) {
        self.has_cut.store(false, Ordering::SeqCst);
        *self.next.lock().unwrap() = Some((passing, cut));
    }

    /// The server refuses to begin the next transaction that may write.
    pub(crate) fn garble_next_begin(&self) {
        self.garbles.store(true, Ordering::SeqCst);
    }

    pub(crate) fn has_cut(&self) -> bool {
        self.has_cut.load(Ordering::SeqCst)
    }
}

fn answers(mut from: TcpStream, mut to: TcpStream, is_mute: &AtomicBool) {
    let mut bytes = [0; 65_536];
    loop {
        match from.read(&mut bytes) {
            Ok(0) | Err(_) => break,
            // The answer to the commit: it was carried out, and that is all that anybody learns.
            Ok(_) if is_mute.load(Ordering::SeqCst) => break,
            Ok(read) => {
                if to.write_all(&bytes[..read]).is_err() {
                    break;
                }
            }
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

fn questions(
    mut from: TcpStream,
    mut to: TcpStream,
    next: &Mutex<Option<(u32, Cut)>>,
    has_cut: &AtomicBool,
    garbles: &AtomicBool,
    is_mute: &AtomicBool,
) {
    let mut bytes = [0; 65_536];
    loop {
        let read = match from.read(&mut bytes) {
            Ok(0) | Err(_) => break,
            Ok(read) => read,
        };
        let begins = bytes[..read].windows(BEGIN.len()).position(|part| part == BEGIN);
        if let Some(at) = begins.filter(|_| garbles.swap(false, Ordering::SeqCst)) {
            bytes[at] = b'?';
        }
        let is_commit = bytes[..read].ends_with(COMMIT);
        match if is_commit { due(&mut next.lock().unwrap()) } else { None } {
            Some(Cut::Question) => {
                has_cut.store(true, Ordering::SeqCst);
                break;
            }
            Some(Cut::Answer) => {
                has_cut.store(true, Ordering::SeqCst);
                is_mute.store(true, Ordering::SeqCst);
            }
            None => {}
        }
        if to.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

/// How a commit is cut, if it is the one.
fn due(next: &mut Option<(u32, Cut)>) -> Option<Cut> {
    match next {
        Some((0, _)) => next.take().map(|(_, cut)| cut),
        Some((passing, _)) => {
            *passing -= 1;
            None
        }
        None => None,
    }
}
