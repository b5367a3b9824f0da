//! Signed checkpoints of the tree: the text of C2SP `tlog-checkpoint`, signed as C2SP `signed-note` with Ed25519
//! (signature type 0x01). Any tool for transparency logs can read and check them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::artefact::{SignatureVerifier, Signer};
use crate::id::SigningPublic;
use crate::{Code, Digest};

use super::merkle::MAX_LEAVES;

/// The most bytes of a signed note that are read.
pub const MAX_NOTE_BYTES: usize = 64 * 1024;
/// The most signature lines of a note that are looked at.
pub const MAX_SIGNATURES: usize = 64;

/// C2SP signed-note: Ed25519 over the note's text.
const TYPE_ED25519: u8 = 0x01;
/// Opens a signature line: an em dash and a space.
const SIGNATURE_MARK: &str = "\u{2014} ";
const KEY_ID_BYTES: usize = 4;

/// Why a note or checkpoint is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not a signed note, or its text is not a checkpoint.
    #[error("not a signed checkpoint: {0}")]
    Malformed(&'static str),
    /// No signature under the wanted name and key.
    #[error("not signed by {0}")]
    NotSigned(String),
    /// There is one, and it does not match.
    #[error("the signature of {0} does not match")]
    BadSignature(String),
    /// A name that cannot stand in a note: empty, with white space or a plus sign.
    #[error("not a name for a note")]
    Name,
}

impl NoteError {
    /// The stable code for it.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Malformed(_) | Self::Name => Code::Malformed,
            Self::NotSigned(_) => Code::WrongSigner,
            Self::BadSignature(_) => Code::BadSignature,
        }
    }
}

/// A tree's size and root at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log: a name without scheme, also the name that the log signs with.
    pub origin: String,
    /// Leaves.
    pub size: u64,
    /// Root over them.
    pub root: Digest,
    /// Further lines, none empty.
    pub extensions: Vec<String>,
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+')
}

/// The first bytes of SHA-256(name ‖ LF ‖ type ‖ key).
fn key_id(name: &str, key: &SigningPublic) -> [u8; KEY_ID_BYTES] {
    let [a, b, c, d, ..] =
        *Digest::sha256(&[name.as_bytes(), b"\n", &[TYPE_ED25519], key.as_bytes()]).as_bytes();
    [a, b, c, d]
}

/// The key as other tools take it (`vkey`): `name+key id+base64(type ‖ key)`.
///
/// # Errors
/// [`NoteError::Name`].
pub fn verifier_key(name: &str, key: &SigningPublic) -> Result<String, NoteError> {
    if !is_name(name) {
        return Err(NoteError::Name);
    }
    let encoded = BASE64.encode([&[TYPE_ED25519], key.as_bytes().as_slice()].concat());
    Ok(format!("{name}+{}+{encoded}", hex::encode(key_id(name, key))))
}

/// Signs a text, which ends with a line feed, as a note.
///
/// # Errors
/// [`NoteError::Name`], [`NoteError::Malformed`].
pub fn sign_note(text: &str, name: &str, signer: &dyn Signer) -> Result<String, NoteError> {
    if !is_name(name) {
        return Err(NoteError::Name);
    }
    check_text(text)?;
    let signature = signer.sign(text.as_bytes());
    let encoded = BASE64.encode([key_id(name, &signer.public()).as_slice(), &signature].concat());
    Ok(format!("{text}\n{SIGNATURE_MARK}{name} {encoded}\n"))
}

fn check_text(text: &str) -> Result<(), NoteError> {
    if !text.ends_with('\n') {
        return Err(NoteError::Malformed("the text does not end its last line"));
    }
    if text.chars().any(|c| c.is_ascii_control() && c != '\n') {
        return Err(NoteError::Malformed("control characters"));
    }
    Ok(())
}

/// The text of a note that `name` signed with `key`. Signatures of others are passed over.
///
/// # Errors
/// [`NoteError`].
pub fn open_note<'a>(
    note: &'a str,
    name: &str,
    key: &SigningPublic,
    verifier: &dyn SignatureVerifier,
) -> Result<&'a str, NoteError> {
    if note.len() > MAX_NOTE_BYTES {
        return Err(NoteError::Malformed("too large"));
    }
    let split = note.rfind("\n\n").ok_or(NoteError::Malformed("no signatures"))?;
    let (text, rest) =
        note.split_at_checked(split.saturating_add(1)).ok_or(NoteError::Malformed("no signatures"))?;
    check_text(text)?;
    let lines = rest.strip_prefix('\n').and_then(|lines| lines.strip_suffix('\n'));
    let lines = lines.ok_or(NoteError::Malformed("the signatures do not end their last line"))?;
    let wanted = key_id(name, key);
    let mut found = None;
    for (number, line) in lines.split('\n').enumerate() {
        if number >= MAX_SIGNATURES {
            return Err(NoteError::Malformed("too many signatures"));
        }
        let (signed_by, encoded) = line
            .strip_prefix(SIGNATURE_MARK)
            .and_then(|line| line.split_once(' '))
            .filter(|(signed_by, _)| is_name(signed_by))
            .ok_or(NoteError::Malformed("a signature line"))?;
        let bytes = BASE64.decode(encoded).map_err(|_| NoteError::Malformed("a signature line"))?;
        let (id, signature) =
            bytes.split_first_chunk::<KEY_ID_BYTES>().ok_or(NoteError::Malformed("a signature line"))?;
        if signed_by == name && *id == wanted {
            let signature = <[u8; 64]>::try_from(signature);
            let valid = signature.is_ok_and(|signature| verifier.is_valid(key, text.as_bytes(), &signature));
            if !valid {
                return Err(NoteError::BadSignature(name.to_owned()));
            }
            found = Some(text);
        }
    }
    found.ok_or_else(|| NoteError::NotSigned(name.to_owned()))
}

impl Checkpoint {
    /// The text that is signed.
    ///
    /// # Errors
    /// [`NoteError`] if origin or extension lines cannot stand in it.
    pub fn text(&self) -> Result<String, NoteError> {
        if !is_name(&self.origin) {
            return Err(NoteError::Name);
        }
        let mut text = format!("{}\n{}\n{}\n", self.origin, self.size, BASE64.encode(self.root.as_bytes()));
        for line in &self.extensions {
            if line.is_empty() || line.contains('\n') {
                return Err(NoteError::Malformed("an extension line"));
            }
            text.push_str(line);
            text.push('\n');
        }
        check_text(&text)?;
        Ok(text)
    }

    /// The signed note, signed in the origin's name.
    ///
    /// # Errors
    /// As [`Checkpoint::text`].
    pub fn sign(&self, signer: &dyn Signer) -> Result<String, NoteError> {
        sign_note(&self.text()?, &self.origin, signer)
    }

    /// Reads a note that the log `origin` signed with `key`.
    ///
    /// # Errors
    /// [`NoteError`].
    pub fn open(
        note: &str,
        origin: &str,
        key: &SigningPublic,
        verifier: &dyn SignatureVerifier,
    ) -> Result<Self, NoteError> {
        let checkpoint = Self::parse(open_note(note, origin, key, verifier)?)?;
        if checkpoint.origin != origin {
            return Err(NoteError::Malformed("another origin"));
        }
        Ok(checkpoint)
    }

    fn parse(text: &str) -> Result<Self, NoteError> {
        let mut lines = text.strip_suffix('\n').unwrap_or(text).split('\n');
        let mut next = |what| lines.next().filter(|line| !line.is_empty()).ok_or(NoteError::Malformed(what));
        let origin = next("origin")?.to_owned();
        let size = next("size")?;
        let root = next("root")?;
        let size_leaves = size
            .parse()
            .ok()
            .filter(|leaves: &u64| *leaves <= MAX_LEAVES && leaves.to_string() == size)
            .ok_or(NoteError::Malformed("size"))?;
        let root = BASE64.decode(root).map_err(|_| NoteError::Malformed("root"))?;
        let root = Digest::try_from(root.as_slice()).map_err(|_| NoteError::Malformed("root"))?;
        let extensions: Vec<String> = lines.map(str::to_owned).collect();
        if extensions.iter().any(String::is_empty) {
            return Err(NoteError::Malformed("an extension line"));
        }
        Ok(Self { origin, size: size_leaves, root, extensions })
    }
}

#[cfg(test)]
#[path = "checkpoint_tests.rs"]
mod tests;
