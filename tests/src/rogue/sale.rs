//! The rogue as source: a quote, a package, the shares. Everything comes out honest; a test changes what it wants
//! before it is sealed or signed.

use anyhow::{Context as _, Result, anyhow, ensure};
use handover_core::artefact::Verified;
use handover_core::artefact::patient::{Ask, Consent, ConsentMode, Scope, ShareRelease};
use handover_core::artefact::transfer::{
    ContentRef, DepartmentCount, KeyRelease, PackageHeader, PartList, Payer, QUOTE_LIFE_MS, Quote, QuoteBody,
    QuoteLine, TransferRequest,
};
use handover_core::codec;
use handover_core::message::QUOTE_INFO;
use handover_core::rules::{self, RequestEvidence};
use handover_core::{Amount, Digest, HospitalId, Random as _, TransferId};
use handover_scenarios::world::World;
use handover_seal::shares::{Binding, SUITE, SealedShares, Shares};
use handover_seal::stream::SealWriter;
use handover_seal::{OsRandom, RsaPublicKey, Secret32, hpke_seal_padded, tree};

use super::person::{Person, Yes, endpoint};
use super::stream::Stream;
use super::wire::{self, Beside, Done, Have, Head, Listed, Offer};
use super::{Rogue, none, now};

/// Bytes of the large content: two groups of the tree.
const LARGE_BYTES: usize = 70_000;
/// Where everything is filed.
const DEPARTMENT: &str = "laboratory";

/// A transfer that the rogue is to send.
pub struct Sale {
    /// The destination's request.
    pub request: RequestEvidence,
    /// What the quote says.
    pub body: QuoteBody,
    /// The quote.
    pub quote: Verified<Quote>,
    /// The patient's yes, once given.
    pub yes: Option<Yes>,
    /// The patient's release, once given.
    pub release: Option<Verified<ShareRelease>>,
}

/// What goes into a package.
pub struct Goods {
    /// The manifest's head.
    pub head: Head,
    /// Its records.
    pub records: Vec<Listed>,
    /// What follows the last record in the manifest.
    pub trailing: Vec<u8>,
    /// Sealed contents beside it.
    pub contents: Vec<Vec<u8>>,
    /// The two shares.
    pub shares: Shares,
    /// What the list of parts says, if not what is true of them.
    pub listing: fn(&mut PartList),
    /// What the sealed shares are made of, if not of the shares.
    pub other_shares: Option<Shares>,
}

/// A sealed package.
pub struct Package {
    /// What is offered.
    pub offer: Offer,
    /// The header.
    pub header: Verified<PackageHeader>,
    /// The sealed manifest, then the contents.
    pub parts: Vec<Vec<u8>>,
    /// The sealed shares.
    pub shares: Vec<u8>,
}

fn content_ref(content: &[u8]) -> Result<ContentRef> {
    let (root, length) = tree::root(content)?;
    Ok(ContentRef { root, length, extensions: none() })
}

fn sealed(plain: &[u8], key: &Secret32) -> Result<Vec<u8>> {
    let mut writer = SealWriter::new(Vec::new(), key);
    std::io::Write::write_all(&mut writer, plain)?;
    Ok(writer.finish()?)
}

/// A part as it travels, from a group on; nothing beyond the last.
///
/// # Errors
/// It has no tree.
pub fn travelling(content: &[u8], from_group: u64) -> Result<Vec<u8>> {
    let length = content.len() as u64;
    let (_, outboard) = tree::outboard(content, length)?;
    let mut out = Vec::new();
    if from_group < tree::groups(length) {
        tree::send(content, &outboard, from_group, &mut out)?;
    }
    Ok(out)
}

fn body() -> Result<QuoteBody> {
    let currency = "USD".parse()?;
    let line = |record: &str, price: Option<&str>| QuoteLine {
        record: record.to_owned(),
        date: Some("2024-02-01".to_owned()),
        system: "http://loinc.org".to_owned(),
        code: "24321-2".to_owned(),
        display: "Basic metabolic panel".to_owned(),
        price: price.map(str::to_owned),
        charged_by: None,
        extensions: none(),
    };
    Ok(QuoteBody {
        scope: Scope::everything(),
        departments: vec![DepartmentCount {
            department: DEPARTMENT.parse()?,
            records: 2,
            extensions: none(),
        }],
        records: 2,
        bytes: 70_100,
        lines: vec![line("DiagnosticReport/r-1", Some("100.00")), line("DocumentReference/d-1", None)],
        unpriced: 1,
        basis: "100.00".to_owned(),
        rate_bps: 500,
        fee: Amount::from_minor(500, currency),
        payer: Payer::Patient,
        versions: Digest::from_bytes([0xa5; 32]),
        salt: OsRandom.array(),
        other_tests: None,
        restricted: 0,
        extensions: none(),
    })
}

impl Rogue {
    /// A patient asks for the rogue's records at a hospital, whose desk requests them.
    ///
    /// # Errors
    /// Something honest fails.
    pub fn requested(&mut self, world: &World, person: &Person, to: &str) -> Result<(Verified<Ask>, Sale)> {
        let ask = person.signed(person.asking(self.id(), &to.parse()?));
        endpoint(world, to)?.artefact(ask.envelope())?;
        let transfer = ask.transfer.context("an ask for a transfer")?;
        world.node(to, &["transfer", "request", &transfer.to_string()])?.done()?;
        let request = self.letter::<TransferRequest>(|it| it.transfer == transfer)?;
        let request = self.judge(|context| rules::request(request.envelope(), context))?;
        let body = body()?;
        let quote = self.quote(&request, &body)?;
        Ok((ask, Sale { request, body, quote, yes: None, release: None }))
    }

    /// An honest quote for a request.
    ///
    /// # Errors
    /// The patient's key is none.
    pub fn quote(&self, on: &RequestEvidence, body: &QuoteBody) -> Result<Verified<Quote>> {
        let (plain, transfer) = (codec::encode(body), on.request.transfer);
        let sealed = hpke_seal_padded(
            &on.keys.newest().sealing_key,
            QUOTE_INFO,
            transfer.as_bytes(),
            &plain,
            &mut OsRandom,
        )?;
        let issued = now();
        let quote = Quote {
            transfer,
            patient: on.ask.patient,
            source: on.request.source.clone(),
            destination: on.request.destination.clone(),
            request: on.request.hash(),
            commitment: Digest::sha256(&[&plain]),
            sealed: sealed.into(),
            narrows: None,
            request_key: on.request.request_key,
            issued,
            expires: issued.plus_ms(QUOTE_LIFE_MS),
            referral: None,
            sealed_to_payer: None,
            priced: issued,
            continues: None,
            extensions: none(),
        };
        Ok(Verified::sign(quote, &self.keys.signing))
    }

    /// The quote reaches the destination, the patient says yes and releases their share there, and the rogue has
    /// both.
    ///
    /// # Errors
    /// Something honest fails.
    pub fn agree(&mut self, world: &World, person: &Person, sale: &mut Sale) -> Result<()> {
        self.agree_for(world, person, sale, ConsentMode::OneTime)
    }

    /// The same, for once or for what follows, too.
    ///
    /// # Errors
    /// Something honest fails.
    pub fn agree_for(
        &mut self,
        world: &World,
        person: &Person,
        sale: &mut Sale,
        mode: ConsentMode,
    ) -> Result<()> {
        let (transfer, to) = (sale.transfer(), sale.request.request.destination.clone());
        self.post(&to, sale.quote.envelope()).map_err(|code| anyhow!("the quote: {code}"))?;
        world
            .node(
                to.as_str(),
                &["transfer", "show", &transfer.to_string(), "--wait", "30", "--until", "quoted"],
            )?
            .done()?;
        let federation = self.federation()?;
        let yes = person.consent(&sale.quote, &sale.body, &federation, |_, it| it.mode = mode)?;
        let release = person.release(&yes, &sale.quote)?;
        let node = endpoint(world, to.as_str())?;
        node.artefact(yes.consent.envelope())?;
        node.artefact(release.envelope())?;
        let came = self.letter::<Consent>(|it| it.transfer == transfer)?;
        ensure!(came.envelope() == yes.consent.envelope(), "another consent came");
        (sale.yes, sale.release) = (Some(yes), Some(release));
        Ok(())
    }

    /// A transfer up to the patient's yes, in one go.
    ///
    /// # Errors
    /// Something honest fails.
    pub fn agreed(&mut self, world: &World, person: &Person, to: &str) -> Result<Sale> {
        let (_, mut sale) = self.requested(world, person, to)?;
        self.agree(world, person, &mut sale)?;
        Ok(sale)
    }

    /// Two records: a small one inside, a large one beside.
    ///
    /// # Errors
    /// There is no yes yet.
    pub fn goods(&self, sale: &Sale) -> Result<Goods> {
        self.goods_of(sale, LARGE_BYTES)
    }

    /// The same with a large one of at least so many bytes.
    ///
    /// # Errors
    /// There is no yes yet.
    pub fn goods_of(&self, sale: &Sale, large_bytes: usize) -> Result<Goods> {
        let yes = sale.yes.as_ref().context("no yes yet")?;
        let small = br#"{"resourceType":"DiagnosticReport","id":"r-1","status":"final"}"#.to_vec();
        let large = format!(
            r#"{{"resourceType":"DocumentReference","id":"d-1","status":"current","description":"{}"}}"#,
            "x".repeat(large_bytes)
        );
        let key = Secret32::generate(&mut OsRandom);
        let content = sealed(large.as_bytes(), &key)?;
        let ContentRef { root, length, .. } = content_ref(&content)?;
        let beside =
            Beside { root, length, key: *key.expose(), plain_bytes: large.len() as u64, extensions: none() };
        let listed = |resource_type: &str, id: &str, json: &[u8], is_inside: bool| -> Result<Listed> {
            Ok(Listed {
                salt: OsRandom.array(),
                origin: self.id().clone(),
                department: DEPARTMENT.parse()?,
                resource_type: resource_type.to_owned(),
                resource_id: id.to_owned(),
                version: 1,
                content_hash: Digest::sha256(&[json]),
                date: None,
                content: is_inside.then(|| json.to_vec().into()),
                sealed: (!is_inside).then(|| beside.clone()),
                is_restricted: false,
                media_type: None,
                file_name: None,
                extensions: none(),
            })
        };
        let records = vec![
            listed("DiagnosticReport", "r-1", &small, true)?,
            listed("DocumentReference", "d-1", large.as_bytes(), false)?,
        ];
        let head = Head {
            transfer: sale.transfer(),
            attempt: 1,
            source: self.id().clone(),
            destination: sale.request.request.destination.clone(),
            consent: yes.consent.hash(),
            quote: sale.quote.hash(),
            body: sale.body.clone(),
            records: records.len() as u64,
            extensions: none(),
        };
        let shares = Shares::generate(&mut OsRandom);
        Ok(Goods {
            head,
            records,
            trailing: Vec::new(),
            contents: vec![content],
            listing: |_| {},
            shares,
            other_shares: None,
        })
    }

    /// Seals goods as they are; the header says what is true of them, but for what `change` does to it.
    ///
    /// # Errors
    /// There is no yes yet, or the destination's key is none.
    pub fn sealed(
        &self,
        sale: &Sale,
        goods: &Goods,
        change: impl FnOnce(&mut PackageHeader),
    ) -> Result<Package> {
        let yes = sale.yes.as_ref().context("no yes yet")?;
        let binding = sale.binding(&yes.consent);
        let secrets = goods.shares.content_secrets(&binding)?;
        let mut plain = wire::frame(&goods.head);
        for record in &goods.records {
            plain.extend(wire::frame(record));
        }
        plain.extend(&goods.trailing);
        let mut parts = vec![sealed(&plain, &secrets.cek)?];
        parts.extend(goods.contents.iter().cloned());
        let federation = self.federation()?;
        let member = federation.member(&binding.destination).map_err(|code| anyhow!("{code}"))?;
        let rsa = RsaPublicKey::from_spki_der(member.profile.rsa_key.as_ref())?;
        let given = goods.other_shares.as_ref().unwrap_or(&goods.shares);
        let grant = &yes.consent.grant_key;
        let shares = codec::encode(&SealedShares::seal(given, &binding, &rsa, grant, &mut OsRandom)?);
        let mut refs = parts.iter().map(|part| content_ref(part)).collect::<Result<Vec<_>>>()?;
        let manifest = refs.remove(0);
        let mut list = PartList { salt: OsRandom.array(), manifest, contents: refs, extensions: none() };
        (goods.listing)(&mut list);
        let mut header = PackageHeader {
            transfer: binding.transfer,
            attempt: binding.attempt,
            source: binding.source.clone(),
            destination: binding.destination.clone(),
            consent: binding.consent,
            quote: sale.quote.hash(),
            suite: SUITE,
            shares: rules::shares_hash(&shares),
            parts: list.commitment(),
            record_root: wire::record_root(&goods.records),
            fee: sale.body.fee,
            payer: sale.body.payer,
            commitment: Digest::from_bytes(secrets.commitment),
            issued: now(),
            extensions: none(),
        };
        change(&mut header);
        let header = Verified::sign(header, &self.keys.signing);
        let offer = Offer {
            quote: sale.quote.envelope().to_vec().into(),
            consent: yes.consent.envelope().to_vec().into(),
            final_quote: None,
            header: header.envelope().to_vec().into(),
            parts: list,
            release: None,
            extensions: none(),
        };
        Ok(Package { offer, header, parts, shares })
    }

    /// Offers a package; the stream and what the destination has.
    ///
    /// # Errors
    /// The stream breaks.
    pub fn offer(&self, to: &HospitalId, offer: &Offer) -> Result<(Stream, Have)> {
        let mut stream = self.open(to).map_err(|code| anyhow!("a package stream to {to}: {code}"))?;
        stream.put(offer)?;
        let have = stream.get()?;
        Ok((stream, have))
    }

    /// Delivers what the destination wants of a package, the parts as `change` leaves them on their way; the destination's last word.
    ///
    /// # Errors
    /// The offer is not taken, or the stream breaks before the last word.
    pub fn deliver(
        &self,
        to: &HospitalId,
        package: &Package,
        change: impl FnOnce(&mut Vec<Vec<u8>>),
    ) -> Result<Done> {
        let stream = self.open(to).map_err(|code| anyhow!("a package stream to {to}: {code}"))?;
        carry(stream, package, change)
    }

    /// The shares of a package, released.
    #[must_use]
    pub fn key_release(&self, package: &Package) -> KeyRelease {
        KeyRelease {
            transfer: package.header.transfer,
            attempt: package.header.attempt,
            header: package.header.hash(),
            shares: package.shares.clone().into(),
            issued: now(),
            extensions: none(),
        }
    }
}

impl Sale {
    /// The transfer.
    #[must_use]
    pub fn transfer(&self) -> TransferId {
        self.request.request.transfer
    }

    /// What binds the shares of the first attempt.
    #[must_use]
    pub fn binding(&self, consent: &Verified<Consent>) -> Binding {
        Binding {
            source: self.request.request.source.clone(),
            destination: self.request.request.destination.clone(),
            consent: consent.hash(),
            transfer: self.transfer(),
            attempt: 1,
        }
    }
}

/// Carries a package over a stream, whoever opened it, as [`Rogue::deliver`] does.
///
/// # Errors
/// As there.
pub fn carry(mut stream: Stream, package: &Package, change: impl FnOnce(&mut Vec<Vec<u8>>)) -> Result<Done> {
    stream.put(&package.offer)?;
    let have: Have = stream.get()?;
    ensure!(have.problem.is_none(), "the offer is refused: {have:?}");
    let wanted = package.parts.iter().zip(have.groups);
    let mut parts =
        wanted.map(|(part, from_group)| travelling(part, from_group)).collect::<Result<Vec<Vec<u8>>>>()?;
    change(&mut parts);
    for part in &parts {
        // The other side may have seen enough already; its last word says so.
        if stream.write(part).is_err() {
            break;
        }
    }
    let _ = stream.end();
    stream.get()
}
