//! What a member says who means harm: what somebody said before, as it was, with a bit turned, or under its own signature.

use anyhow::{Result, ensure};
use handover_core::TransferId;
use handover_core::artefact::transfer::{
    Delivered, FeeAcceptance, KeyRelease, NextAttempt, PackageHeader, Quote, Receipt, Refusal,
    RevocationConfirmed, TransferRequest,
};
use handover_core::artefact::{Payload, Signed, Verified};
use handover_core::codec::{self, Bytes, MAX_MESSAGE_BYTES};
use handover_core::message::{Answer, Parcel, Request, Verb};
use handover_dossier::transfer_of;
use handover_net::{Net, Route};
use handover_seal::SigningKey;

use crate::places::{Hospital, IndexSeat};
use crate::story::Stage;

/// How something is said that should not be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lie {
    /// As it was.
    Repeated,
    Bent,
    /// Under one's own signature, if it is of others' transfer.
    Forged,
}

/// The envelope's payload under this key, if it is of one type.
type Again = fn(&[u8], &SigningKey) -> Option<Vec<u8>>;

/// Everything that a hospital signs in a transfer.
const AGAIN: [Again; 10] = [
    again::<TransferRequest>,
    again::<Quote>,
    again::<FeeAcceptance>,
    again::<PackageHeader>,
    again::<Delivered>,
    again::<KeyRelease>,
    again::<Receipt>,
    again::<Refusal>,
    again::<NextAttempt>,
    again::<RevocationConfirmed>,
];

fn again<T: Payload + Clone>(envelope: &[u8], by: &SigningKey) -> Option<Vec<u8>> {
    let honest = Signed::<T>::read(envelope).ok()?;
    Some(Verified::sign(honest.claim().clone(), by).envelope().to_vec())
}

/// A delivery that somebody made, with what is in it under this key's signature; and of which transfer.
fn forged(body: &[u8], by: &SigningKey) -> Option<(TransferId, Vec<u8>)> {
    let request = Request::decode(body).ok().filter(|request| request.verb == Verb::Deliver)?;
    let parcel: Parcel = codec::decode(request.only_item().ok()?, MAX_MESSAGE_BYTES).ok()?;
    let content = parcel.content.as_ref();
    let transfer = transfer_of(content).ok()?;
    let forged = AGAIN.iter().find_map(|again| again(content, by))?;
    let parcel = Parcel { content: Bytes(forged), ..parcel };
    Some((transfer, Request::encode(Verb::Deliver, vec![codec::encode(&parcel)])))
}

/// What was said before, with a bit turned.
fn bent(mut body: Vec<u8>) -> Vec<u8> {
    let at = body.len() / 2;
    if let Some(byte) = body.get_mut(at) {
        *byte ^= 0x40;
    }
    body
}

impl Stage {
    /// A member of the federation, or its index, says what it should not: it gets an answer, or none, and nothing follows.
    pub(crate) async fn lie(&self, by: usize, to: usize, how: Lie) -> Result<()> {
        let (liar, route) = (self.party(by), Route { party: self.party(to), addresses: self.addresses(to) });
        let body = self.fabric.overheard();
        let (Some(body), Some((net, signing))) = (body, self.voice(by)) else { return Ok(()) };
        let body = match how {
            Lie::Repeated => body,
            Lie::Bent => bent(body),
            Lie::Forged => {
                let Some((transfer, body)) = forged(&body, &signing) else { return Ok(()) };
                // What it signs in its own is its word.
                let own = self.hospitals.get(by).and_then(Hospital::node);
                if let Some(node) = own
                    && node.exchange.transfer(transfer).await.is_ok()
                {
                    return Ok(());
                }
                self.liars.borrow_mut().insert(liar.clone());
                body
            }
        };
        let answer = net.request(&route, body.clone()).await;
        if !matches!(how, Lie::Repeated) {
            self.fabric.forget(&body);
        }
        if let Ok(answer) = answer {
            let is_taken = Answer::decode(&answer).is_ok();
            let may_not = matches!(how, Lie::Forged);
            ensure!(!(is_taken && may_not), "{} takes what {liar} forged", route.party);
        }
        Ok(())
    }

    /// With what a process that runs speaks.
    fn voice(&self, number: usize) -> Option<(Net, SigningKey)> {
        match self.hospitals.get(number) {
            Some(hospital) => {
                Some((hospital.node()?.net.clone(), SigningKey::from_seed(&hospital.keys().signing.seed())))
            }
            None => Some((self.index.running()?.net.clone(), IndexSeat::keys().signing)),
        }
    }

    fn addresses(&self, number: usize) -> Vec<String> {
        match self.hospitals.get(number) {
            Some(hospital) => hospital.node().map(|node| node.net.addresses()).unwrap_or_default(),
            None => self.index_addresses.clone(),
        }
    }
}
