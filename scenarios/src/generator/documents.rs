//! Scanned documents: a DocumentReference with a PDF inside, its pages' stream incompressible like a real scan's.

use serde_json::{Value, json};

use super::chart::{Chart, concept};
use super::codes::loinc;
use super::random::Rng;
use super::visits::Visit;

/// A DocumentReference whose attachment is a PDF of about `scan_bytes`.
pub(super) fn scan(chart: &mut Chart, visit: Option<&Visit>, scan_bytes: usize) -> Value {
    let id = chart.rng.uuid();
    let pdf = pdf(&mut chart.rng, scan_bytes);
    let doctor = chart.doctor();
    let encounters: Vec<Value> = visit.map(|visit| visit.reference(chart)).into_iter().collect();
    let mut document = json!({
        "resourceType": "DocumentReference",
        "id": id,
        "status": "current",
        "type": concept(loinc("34133-9", "Summary of episode note")),
        "subject": chart.subject(),
        "date": "2024-11-05T09:30:00Z",
        "author": [doctor],
        "description": "Scanned letter of the family doctor",
        "content": [{
            "attachment": {
                "contentType": "application/pdf",
                "language": "en",
                "size": pdf.len(),
                "title": "Letter.pdf",
                "data": base64(&pdf),
            },
        }],
    });
    if let (Some(fields), false) = (document.as_object_mut(), encounters.is_empty()) {
        fields.insert("context".to_owned(), json!({ "encounter": encounters }));
    }
    document
}

/// A PDF (ISO 32000-1) with one empty page and a stream of `scan_bytes` that it carries along.
fn pdf(rng: &mut Rng, scan_bytes: usize) -> Vec<u8> {
    let mut file = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n".to_vec();
    let mut offsets = Vec::new();
    for body in [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << >> /PieceInfo << /Scan << /Private 4 0 R >> >> >>",
    ] {
        offsets.push(file.len());
        file.extend_from_slice(format!("{} 0 obj\n{body}\nendobj\n", offsets.len()).as_bytes());
    }
    offsets.push(file.len());
    file.extend_from_slice(format!("4 0 obj\n<< /Length {scan_bytes} >>\nstream\n").as_bytes());
    file.extend_from_slice(&rng.bytes(scan_bytes));
    file.extend_from_slice(b"\nendstream\nendobj\n");
    let table = file.len();
    file.extend_from_slice(b"xref\n0 5\n0000000000 65535 f \n");
    for offset in offsets {
        file.extend_from_slice(format!("{offset:010} 00000 n \n").as_bytes());
    }
    file.extend_from_slice(
        format!("trailer\n<< /Size 5 /Root 1 0 R >>\nstartxref\n{table}\n%%EOF\n").as_bytes(),
    );
    file
}

/// Base64 with padding (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3).saturating_mul(4));
    for chunk in bytes.chunks(3) {
        let mut group = 0_usize;
        for position in 0..3 {
            group = group << 8 | usize::from(chunk.get(position).copied().unwrap_or(0));
        }
        for digit in 0..4 {
            if digit > chunk.len() {
                text.push('=');
            } else {
                let value = group >> (18 - 6 * digit) & 0x3f;
                text.push(char::from(ALPHABET.get(value).copied().unwrap_or(b'=')));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_gives_the_rfcs_vectors() {
        for (plain, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
        ] {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xfe]), "+//+");
    }

    #[test]
    fn a_scan_is_a_pdf_of_its_size() {
        let file = pdf(&mut Rng::new(1), 5_000);
        assert!(file.starts_with(b"%PDF-1.4") && file.ends_with(b"%%EOF\n"));
        assert!((5_000..6_000).contains(&file.len()));
    }
}
