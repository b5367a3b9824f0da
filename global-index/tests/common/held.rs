//! What a hospital holds of the index, as it gives it back.

use handover_core::codec::{self, Bytes, Extensions, MAX_MESSAGE_BYTES};
use handover_core::message::{BooksBackAnswer, EvidenceAnswer, EvidencePlace, OpenedEntry, Request, Verb};
use handover_core::{Code, Digest, TransferId};

use super::now;

/// What a node gives the index back, and how it answers.
#[derive(Default)]
pub struct Held {
    pub newest: Vec<Vec<u8>>,
    /// Of the directory among them.
    pub pieces: Vec<Bytes>,
    pub evidence: Vec<Vec<u8>>,
    pub books: Vec<OpenedEntry>,
    /// Questions that it does not answer now.
    pub refuses: Vec<Verb>,
    /// Whether its evidence never ends.
    pub is_endless: bool,
    /// How often it was asked for evidence.
    pub asked: usize,
}

impl Held {
    pub fn answer(&mut self, request: &Request) -> Result<Vec<Vec<u8>>, Code> {
        if self.refuses.contains(&request.verb) {
            return Err(Code::Busy);
        }
        if request.verb == Verb::Newest {
            return Ok(self.newest.clone());
        }
        if request.verb == Verb::DirectoryPieces {
            let wanted = request.digests()?;
            let pieces = self.pieces.iter().filter(|piece| wanted.contains(&Digest::sha256(&[&piece.0])));
            // What one message has room for.
            let mut room = MAX_MESSAGE_BYTES - 16 * 1024;
            let fits = |piece: &&Bytes| {
                let left = room.checked_sub(piece.0.len());
                room = left.unwrap_or(room);
                left.is_some()
            };
            return Ok(pieces.take_while(fits).map(|piece| piece.0.clone()).collect());
        }
        if request.verb == Verb::BooksBack {
            let (opened, sealed, next) = (self.books.clone(), Vec::new(), None);
            let answer = BooksBackAnswer { opened, sealed, next, extensions: Extensions::default() };
            return Ok(vec![codec::encode(&answer)]);
        }
        self.asked += 1;
        let next = EvidencePlace {
            transfer: TransferId::new(now().plus_ms(self.asked.try_into().unwrap()), [1; 10]),
            given: None,
            extensions: Extensions::default(),
        };
        let answer = EvidenceAnswer {
            contents: self.evidence.iter().cloned().map(Bytes).collect(),
            next: self.is_endless.then_some(next),
            extensions: Extensions::default(),
        };
        Ok(vec![codec::encode(&answer)])
    }
}
