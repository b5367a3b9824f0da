//! A command's wallet, its way to a hospital, and the clock. Network and file system meet here.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use handover_cli::{CliError, Output, passphrase};
use handover_core::artefact::federation::DIRECTORY_MAX_BYTES;
use handover_core::codec::{self, MAX_MESSAGE_BYTES};
use handover_core::message::{HospitalInfo, Inbox};
use handover_core::trust::Federation;
use handover_core::{Code, HospitalId, Timestamp};
use handover_patient::node::NodeClient;
use handover_patient::{
    DirectoryNews, InboxEntry, Noticed, Question, Wallet, WalletError, WalletFile, make_ask, notices,
    open_inbox,
};
use handover_seal::OsRandom;

use crate::args::{Common, Node, Way};
use crate::patience::Patience;

/// The most bytes of a hospital's information: a directory and a little more.
const MAX_INFO_BYTES: usize = DIRECTORY_MAX_BYTES + MAX_MESSAGE_BYTES;

/// Now, by the system's clock.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Where what is signed goes.
pub(crate) enum Channel {
    /// To a node, tried as long as was said.
    Node(NodeClient, Patience),
    /// Into a file.
    File(PathBuf),
}

impl Channel {
    /// Sends artefacts one after another, or writes them; the files written.
    pub(crate) fn send(&self, contents: &[(&str, &[u8])]) -> Result<Vec<String>, CliError> {
        let mut files = Vec::new();
        for (suffix, content) in contents {
            match self {
                Self::Node(client, patience) => patience.hold(|| Ok(client.artefact(content)?))?,
                Self::File(path) => {
                    let mut path = path.clone().into_os_string();
                    path.push(suffix);
                    write_new(Path::new(&path), content)?;
                    files.push(path.to_string_lossy().into_owned());
                }
            }
        }
        Ok(files)
    }
}

/// Who answers, and everybody's keys.
#[derive(Clone)]
pub(crate) struct Met {
    pub(crate) federation: Federation,
    pub(crate) hospital: HospitalId,
}

/// An opened wallet.
pub(crate) struct Session {
    pub(crate) output: Output,
    pub(crate) file: WalletFile,
}

/// The wallet's path, which every command needs.
pub(crate) fn wallet_path(common: &Common) -> Result<&Path, CliError> {
    common.wallet.as_deref().ok_or_else(|| CliError::new(Code::UsageInvalid, "--wallet FILE is needed"))
}

impl Session {
    pub(crate) fn open(common: &Common) -> Result<Self, CliError> {
        let path = wallet_path(common)?;
        let secret = passphrase(common.passphrase_file.as_deref(), "Passphrase of the wallet: ")?;
        let file = WalletFile::open(path, &secret)?;
        Ok(Self { output: Output { json: common.json }, file })
    }

    /// Remembers that another device has replaced this one, if that is why a hospital refused.
    pub(crate) fn heed<T>(&self, outcome: Result<T, CliError>) -> Result<T, CliError> {
        if let Err(fault) = &outcome
            && matches!(fault.code, Code::KeyRecordOutdated | Code::KeyRecordForked)
        {
            self.replaced(fault.code)?;
        }
        outcome
    }

    /// Remembers that another device has replaced this one.
    pub(crate) fn replaced(&self, code: Code) -> Result<(), CliError> {
        self.file.update(&mut OsRandom, |wallet, _| {
            wallet.state.replaced = Some(code);
            Ok(())
        })?;
        Ok(())
    }

    /// A client for a node, with the certificate given or the one trusted before.
    pub(crate) fn client(&self, url: &str, certificate: Option<&Path>) -> Result<NodeClient, CliError> {
        let pem = match certificate {
            Some(path) => read_text(path)?,
            None => {
                let wallet = self.file.read()?;
                wallet.certificate(url).map(str::to_owned).ok_or_else(|| {
                    CliError::new(Code::UsageInvalid, "no TLS certificate is trusted for this URL")
                        .with_next("Get it from the hospital, then: trust --node URL --certificate FILE.")
                })?
            }
        };
        Ok(NodeClient::new(url, &pem)?)
    }

    /// Where a command's artefacts go, and who is there. By file without the hospital's information, the directory
    /// held is used and nobody is met.
    pub(crate) fn way(&self, way: &Way) -> Result<(Channel, Option<Met>), CliError> {
        let channel = self.channel(way)?;
        let met = match &channel {
            Channel::Node(client, patience) => Some(patience.hold(|| self.meet(client))?),
            Channel::File(_) => way.hospital_info.as_deref().map(|path| self.meet_file(path)).transpose()?,
        };
        Ok((channel, met))
    }

    /// The node that is named, and how long it is tried.
    pub(crate) fn node(&self, node: &Node) -> Result<(NodeClient, Patience), CliError> {
        let url = node.node.as_deref();
        let url =
            url.ok_or_else(|| CliError::new(Code::UsageInvalid, "--node URL or --out FILE is needed"))?;
        Ok((self.client(url, node.node_certificate.as_deref())?, Patience::of(node.wait)))
    }

    /// Where a command's artefacts go; nobody is met.
    pub(crate) fn channel(&self, way: &Way) -> Result<Channel, CliError> {
        match (&way.node.node, &way.out) {
            (Some(url), _) => {
                let client = self.client(url, way.node.node_certificate.as_deref())?;
                Ok(Channel::Node(client, Patience::of(way.node.wait)))
            }
            (None, Some(out)) => Ok(Channel::File(out.clone())),
            (None, None) => Err(CliError::new(Code::UsageInvalid, "--node URL or --out FILE is needed")),
        }
    }

    pub(crate) fn meet(&self, client: &NodeClient) -> Result<Met, CliError> {
        self.take(&self.hospital(client)?)
    }

    /// What a node says of itself, with its directory whole.
    pub(crate) fn hospital(&self, client: &NodeClient) -> Result<HospitalInfo, CliError> {
        let info = client.hospital()?;
        Ok(self.file.read()?.completed(info, now(), |digests| client.directory_pieces(digests))?)
    }

    pub(crate) fn meet_file(&self, path: &Path) -> Result<Met, CliError> {
        let bytes = fs::read(path).map_err(|fault| unreadable(path, &fault))?;
        let info: HospitalInfo = codec::decode(&bytes, MAX_INFO_BYTES)
            .map_err(|fault| CliError::new(Code::Malformed, format!("{}: {fault}", path.display())))?;
        self.take(&info)
    }

    pub(crate) fn take(&self, info: &HospitalInfo) -> Result<Met, CliError> {
        let (federation, news) =
            self.file.update(&mut OsRandom, |wallet, _| wallet.take_directory(info, now()))?;
        match news {
            DirectoryNews::Older => {
                self.output.note("This node has an older directory than the wallet; the wallet's is used.");
            }
            DirectoryNews::Expired => {
                self.output
                    .note("This node's directory has expired, before the wallet's; the wallet's is used.");
            }
            DirectoryNews::Newer | DirectoryNews::Same => {}
        }
        Ok(Met { federation, hospital: info.hospital.clone() })
    }

    /// The directory met, else the one held.
    pub(crate) fn federation(&self, met: Option<Met>) -> Result<Federation, CliError> {
        match met {
            Some(met) => Ok(met.federation),
            None => Ok(self.file.read()?.federation(now())?),
        }
    }

    /// Asks for the inbox at a node, verifies it and remembers what it says.
    pub(crate) fn fetch_inbox(&self, client: &NodeClient, met: &Met) -> Result<Looked, CliError> {
        let wallet = self.file.read()?;
        let ask = make_ask(&wallet.keys, Question::Inbox(met.hospital.clone()), now(), &mut OsRandom);
        let answer = self.heed(client.inbox(ask.envelope()).map_err(CliError::from));
        if answer.as_ref().is_err_and(|fault| fault.code == Code::NotLinked) {
            self.file.update(&mut OsRandom, |wallet, _| {
                wallet.heard_of_link(&met.hospital, Some(now()));
                Ok(())
            })?;
        }
        let answer = answer?;
        let inbox = open_inbox(&wallet.keys, &ask, &answer)?;
        self.file.update(&mut OsRandom, |wallet, _| {
            wallet.heard_of_link(&met.hospital, None);
            Ok(())
        })?;
        self.take_inbox(&inbox, &met.federation)
    }

    /// Verifies an inbox and remembers what it says.
    pub(crate) fn take_inbox(&self, inbox: &Inbox, federation: &Federation) -> Result<Looked, CliError> {
        let entries =
            self.file.update(&mut OsRandom, |wallet, _| Ok(wallet.take_inbox(inbox, federation, now())))?;
        Ok(Looked { entries, broken: notices(inbox, federation), wallet: self.file.read()? })
    }
}

/// What an inbox said, verified.
pub(crate) struct Looked {
    /// Transfers.
    pub(crate) entries: Vec<InboxEntry>,
    /// Break-glasses.
    pub(crate) broken: Vec<Result<Noticed, WalletError>>,
    /// The wallet that remembers it.
    pub(crate) wallet: Wallet,
}

pub(crate) fn read_text(path: &Path) -> Result<String, CliError> {
    fs::read_to_string(path).map_err(|fault| unreadable(path, &fault))
}

fn unreadable(path: &Path, fault: &std::io::Error) -> CliError {
    CliError::new(Code::UsageInvalid, format!("{}: {fault}", path.display()))
}

/// Writes a file that only its owner reads. One with the same content may lie there already: that is a repetition.
pub(crate) fn write_new(path: &Path, content: &[u8]) -> Result<(), CliError> {
    if fs::read(path).is_ok_and(|there| there == content) {
        return Ok(());
    }
    handover_seal::keyfile::write_private(path, content)
        .map_err(|fault| CliError::new(fault.code(), format!("{}: {fault}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_read_is_no_fault_of_a_configuration() {
        let fault = read_text(Path::new("/nonexistent/lakeside-web.pem")).unwrap_err();
        assert_eq!(fault.code, Code::UsageInvalid);
        assert!(fault.detail.contains("lakeside-web.pem"), "{fault}");
    }
}
