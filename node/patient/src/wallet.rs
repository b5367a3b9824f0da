//! A wallet in memory: keys, consent secrets, and what is remembered.
//!
//! Its bytes are the two private keys, the consent secrets at fixed places, and then the state as CBOR: secrets do
//! not pass through the codec, which would leave copies of them.

use std::collections::{BTreeMap, BTreeSet};

use handover_core::artefact::Signed;
use handover_core::artefact::federation::{Directory, WholeDirectory};
use handover_core::codec::{self, Bytes};
use handover_core::id::SigningPublic;
use handover_core::message::HospitalInfo;
use handover_core::trust::{Federation, Gathering, Head};
use handover_core::{Digest, Timestamp, TransferId};
use handover_seal::{Remembered, SealingKey, Secret32, SigningKey};
use zeroize::Zeroizing;

use crate::consent::ConsentSecrets;
use crate::file::MAX_WALLET_BYTES;
use crate::state::{KnownNode, KnownTransfer, WalletState};
use crate::{PatientKeys, WalletError};

/// Transfer identifier, grant key, revocation secret.
const SECRET_ENTRY_BYTES: usize = 16 + 32 + 32;

/// What an offered directory was, beside the one held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectoryNews {
    /// Newer; it is held from now on.
    Newer,
    /// The one held.
    Same,
    /// Older; the one held goes on to be used.
    Older,
    /// Newer, but it has expired, and before the one held, if that has: that goes on to be used.
    Expired,
}

/// A wallet.
#[derive(Debug)]
pub struct Wallet {
    /// The device's keys.
    pub keys: PatientKeys,
    /// What is remembered.
    pub state: WalletState,
    pub(crate) secrets: BTreeMap<TransferId, ConsentSecrets>,
}

impl Wallet {
    /// A wallet that knows nothing but its keys and the federation's root.
    #[must_use]
    pub fn new(keys: PatientKeys, root: SigningPublic) -> Self {
        let state = WalletState {
            key_records: keys.records().to_vec(),
            root,
            directory: None,
            nodes: Vec::new(),
            links: Vec::new(),
            transfers: Vec::new(),
            replaced: None,
            remote_links: Vec::new(),
            extensions: codec::Extensions::default(),
        };
        Self { keys, state, secrets: BTreeMap::new() }
    }

    /// The same with the keys of another device: everything that is remembered, and the secrets that take consents
    /// back.
    #[must_use]
    pub fn with_keys(&self, keys: PatientKeys) -> Self {
        let state =
            WalletState { key_records: keys.records().to_vec(), replaced: None, ..self.state.clone() };
        Self { keys, state, secrets: self.secrets.clone() }
    }

    /// Its bytes, to be encrypted.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let state = codec::encode(&self.state);
        // Room for everything at once: a buffer that grows leaves copies behind.
        let room = 64 + 4 + self.secrets.len().saturating_mul(SECRET_ENTRY_BYTES) + state.len();
        let mut bytes = Zeroizing::new(Vec::with_capacity(room));
        bytes.extend_from_slice(self.keys.signing.seed().expose());
        bytes.extend_from_slice(self.keys.sealing.secret().expose());
        bytes.extend_from_slice(&u32::try_from(self.secrets.len()).unwrap_or(u32::MAX).to_be_bytes());
        for (transfer, secrets) in &self.secrets {
            bytes.extend_from_slice(transfer.as_bytes());
            bytes.extend_from_slice(secrets.grant.secret().expose());
            bytes.extend_from_slice(secrets.revocation.expose());
        }
        bytes.extend_from_slice(&state);
        bytes
    }

    /// From what [`Self::to_bytes`] made; `None` if it is not that.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (signing, rest) = bytes.split_at_checked(32)?;
        let (sealing, rest) = rest.split_at_checked(32)?;
        let (count, mut rest) = rest.split_first_chunk::<4>()?;
        let mut secrets = BTreeMap::new();
        for _ in 0..u32::from_be_bytes(*count) {
            let (entry, after) = rest.split_at_checked(SECRET_ENTRY_BYTES)?;
            let (transfer, pair) = entry.split_at_checked(16)?;
            let (grant, revocation) = pair.split_at_checked(32)?;
            let pair = ConsentSecrets {
                grant: SealingKey::from_bytes(Secret32::from_slice(grant).ok()?),
                revocation: Secret32::from_slice(revocation).ok()?,
            };
            secrets.insert(TransferId::try_from(transfer).ok()?, pair);
            rest = after;
        }
        let state: WalletState = codec::decode(rest, MAX_WALLET_BYTES).ok()?;
        let signing = SigningKey::from_seed(&Secret32::from_slice(signing).ok()?);
        let sealing = SealingKey::from_bytes(Secret32::from_slice(sealing).ok()?);
        let keys = PatientKeys::restore(signing, sealing, &state.key_records).ok()?;
        let wallet = Self { keys, state, secrets };
        wallet.sign_in_force();
        Some(wallet)
    }

    /// The newest directory held, verified again at this time.
    ///
    /// # Errors
    /// [`WalletError::NoDirectory`], [`WalletError::Directory`].
    pub fn federation(&self, now: Timestamp) -> Result<Federation, WalletError> {
        let held = self.state.directory.as_ref().ok_or(WalletError::NoDirectory)?;
        Ok(Federation::verify(held, &self.state.root, now, &Remembered)?)
    }

    /// Signs in the edition that the directory held says; it was verified when it was taken.
    fn sign_in_force(&self) {
        let held = self.state.directory.as_ref().map(|held| Signed::<Directory>::read(held.head.as_ref()));
        if let Some(Ok(held)) = held {
            self.keys.signing.signs_in().set(held.claim().edition);
        }
    }

    /// What a node says of itself with all pieces of its directory: those that the wallet does not hold it asks for.
    ///
    /// # Errors
    /// [`WalletError::Directory`] for a head that does not verify under the pinned root; what `ask` says; what comes is not
    /// what was asked for.
    pub fn completed(
        &self,
        info: HospitalInfo,
        now: Timestamp,
        ask: impl Fn(Vec<Digest>) -> Result<Vec<Vec<u8>>, WalletError>,
    ) -> Result<HospitalInfo, WalletError> {
        let head = Head::verify(info.directory.head.as_ref(), &self.state.root, now, &Remembered)?;
        let named: BTreeSet<&Digest> = head.directory().pieces.iter().collect();
        let held = self.state.directory.iter().flat_map(|held| held.pieces.iter().cloned());
        let held: BTreeMap<Digest, Bytes> = held
            .map(|piece| (Digest::sha256(&[piece.as_ref()]), piece))
            .filter(|(digest, _)| named.contains(digest))
            .collect();
        let mut gathering = Gathering::of(&head, &held.keys().copied().collect());
        while !gathering.missing().is_empty() {
            gathering
                .take(ask(gathering.missing())?)
                .map_err(WalletError::rule("the pieces of the directory"))?;
        }
        let pieces = held.into_values().chain(gathering.pieces().into_iter().map(Bytes)).collect();
        Ok(HospitalInfo { directory: WholeDirectory { pieces, ..info.directory }, ..info })
    }

    /// Takes the directory that a node offers, whole, if it verifies under the pinned root and is newer than the one held.
    /// An older one is never gone back to, and one that has expired takes the place of none that still holds: the one
    /// held is given instead.
    ///
    /// # Errors
    /// [`WalletError::Directory`]; [`WalletError::DirectoryFork`] for another one with the version held;
    /// [`WalletError::Rule`] if the node's hospital is not in it.
    pub fn take_directory(
        &mut self,
        info: &HospitalInfo,
        now: Timestamp,
    ) -> Result<(Federation, DirectoryNews), WalletError> {
        let head = Head::verify(info.directory.head.as_ref(), &self.state.root, now, &Remembered)?;
        // One that no longer verifies (a certificate in it ran out) still counts as seen.
        let held = self.state.directory.as_ref().map(|held| version(held.head.as_ref())).transpose()?;
        let version = head.directory().version;
        let (federation, news) = match held {
            Some(held) if version < held => (self.federation(now)?, DirectoryNews::Older),
            Some(held) if version == held => {
                if self.state.directory.as_ref().map(|held| &held.head) != Some(&info.directory.head) {
                    return Err(WalletError::DirectoryFork(version));
                }
                (self.federation(now)?, DirectoryNews::Same)
            }
            _ => {
                let offered = head.complete(&info.directory.pieces, None, &Remembered)?;
                if held.is_some() && offered.check_fresh(now).is_err() && self.holds_longer(&offered, now) {
                    (self.federation(now)?, DirectoryNews::Expired)
                } else {
                    self.state.directory = Some(offered.whole());
                    (offered, DirectoryNews::Newer)
                }
            }
        };
        self.sign_in_force();
        federation.member(&info.hospital).map_err(WalletError::rule("the hospital that answers"))?;
        Ok((federation, news))
    }

    fn holds_longer(&self, offered: &Federation, now: Timestamp) -> bool {
        self.federation(now).is_ok_and(|held| offered.directory().expires < held.directory().expires)
    }

    /// Trusts a TLS certificate (PEM) for a node's URL, instead of the one before.
    pub fn trust(&mut self, url: &str, certificate: &str) {
        let url = url.trim_end_matches('/').to_owned();
        self.state.nodes.retain(|node| node.url != url);
        let certificate = certificate.to_owned();
        self.state.nodes.push(KnownNode { url, certificate, extensions: codec::Extensions::default() });
        self.state.nodes.sort_by(|one, other| one.url.cmp(&other.url));
    }

    /// The TLS certificate that is trusted for a URL.
    #[must_use]
    pub fn certificate(&self, url: &str) -> Option<&str> {
        let url = url.trim_end_matches('/');
        self.state.nodes.iter().find(|node| node.url == url).map(|node| node.certificate.as_str())
    }

    /// A transfer.
    ///
    /// # Errors
    /// [`WalletError::UnknownTransfer`].
    pub fn transfer(&self, transfer: &TransferId) -> Result<&KnownTransfer, WalletError> {
        self.state
            .transfers
            .iter()
            .find(|known| known.transfer == *transfer)
            .ok_or(WalletError::UnknownTransfer)
    }

    pub(crate) fn transfer_mut(&mut self, transfer: &TransferId) -> Result<&mut KnownTransfer, WalletError> {
        self.state
            .transfers
            .iter_mut()
            .find(|known| known.transfer == *transfer)
            .ok_or(WalletError::UnknownTransfer)
    }
}

fn version(envelope: &[u8]) -> Result<u64, WalletError> {
    Ok(Signed::<Directory>::read(envelope)?.claim().version)
}
