//! Signature Version 4 from the verifying side, by hand ("Authenticating requests", AWS general reference): what is
//! compared is computed here and by nobody else's signer.

use ring::{digest, hmac};

/// The scope of a signature: `DATE/REGION/SERVICE/aws4_request`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope<'a> {
    /// `20261122`.
    pub(super) day: &'a str,
    pub(super) region: &'a str,
    pub(super) service: &'a str,
}

/// The signature of a canonical request that was made at `date` (`20261122T053000Z`).
pub(super) fn signature(secret: &str, scope: Scope<'_>, date: &str, canonical: &str) -> String {
    let Scope {
        day,
        region,
        service,
    } = scope;
    let text = format!(
        "AWS4-HMAC-SHA256\n{date}\n{day}/{region}/{service}/aws4_request\n{}",
        sha256(canonical.as_bytes())
    );
    let first = mac(format!("AWS4{secret}").as_bytes(), day);
    let key = [region, service, "aws4_request"]
        .iter()
        .fold(first, |key, part| mac(&key, part));
    hex::encode(mac(&key, &text))
}

/// SHA-256 in hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes))
}

fn mac(key: &[u8], message: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, message.as_bytes()).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_awss_published_example() {
        // "Examples: signature calculations", GET object of Amazon S3.
        let empty = sha256(b"");
        let canonical = format!(
            "GET\n/test.txt\n\nhost:examplebucket.s3.amazonaws.com\nrange:bytes=0-9\nx-amz-content-sha256:{empty}\n\
             x-amz-date:20130524T000000Z\n\nhost;range;x-amz-content-sha256;x-amz-date\n{empty}"
        );
        let scope = Scope {
            day: "20130524",
            region: "us-east-1",
            service: "s3",
        };
        let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        assert_eq!(
            signature(secret, scope, "20130524T000000Z", &canonical),
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        );
    }
}
