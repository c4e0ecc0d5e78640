//! Rules for RSA public keys: size, exponent, and moduli that are known to be breakable.
//! Not a factoring tool: each check is bounded to a few milliseconds.

use rsa::BoxedUint;
use rsa::traits::PublicKeyParts as _;
use ssh_key::public::RsaPublicKey;

use super::InvalidKey;

/// Shortest subject key, in bits.
const MIN_BITS: u32 = 2048;
/// Longest subject key, in bits: verification cost grows with it.
const MAX_BITS: u32 = 8192;
/// Rounds of Fermat's method; finds primes that differ in their low halves only (boulder uses 110).
const FERMAT_ROUNDS: u32 = 110;

/// Refuses weak keys.
///
/// # Errors
/// [`InvalidKey`] names the weakness.
pub(super) fn check(key: &RsaPublicKey) -> Result<(), InvalidKey> {
    let bits = key.key_size();
    if !(MIN_BITS..=MAX_BITS).contains(&bits) {
        return Err(InvalidKey::RsaSize {
            bits,
            min: MIN_BITS,
        });
    }
    let exponent = key.e().as_positive_bytes().ok_or(InvalidKey::Malformed)?;
    let modulus = key.n().as_positive_bytes().ok_or(InvalidKey::Malformed)?;
    check_exponent(exponent)?;
    let key =
        rsa::RsaPublicKey::try_from(key).map_err(|_| InvalidKey::RsaWeak("unusable numbers"))?;
    check_small_factors(modulus)?;
    if is_roca(modulus) {
        return Err(InvalidKey::RsaWeak(
            "it has the form of CVE-2017-15361 (ROCA)",
        ));
    }
    check_fermat(key.n().as_ref())
}

/// Odd, at least 65537, at most 32 bits: what every common generator writes.
fn check_exponent(exponent: &[u8]) -> Result<(), InvalidKey> {
    let value = exponent
        .iter()
        .fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
    if exponent.len() <= 4 && value % 2 == 1 && value >= 65_537 {
        Ok(())
    } else {
        Err(InvalidKey::RsaWeak(
            "its public exponent is even, small or very large",
        ))
    }
}

fn check_small_factors(modulus: &[u8]) -> Result<(), InvalidKey> {
    let composite = (2..752_u32)
        .filter(|n| (2..*n).all(|d| n % d != 0))
        .any(|p| remainder(modulus, p) == 0);
    if composite {
        Err(InvalidKey::RsaWeak("its modulus has a small factor"))
    } else {
        Ok(())
    }
}

fn remainder(magnitude: &[u8], divisor: u32) -> u32 {
    let divisor = u64::from(divisor);
    let rest = magnitude.iter().fold(0_u64, |rest, byte| {
        ((rest << 8) | u64::from(*byte)) % divisor
    });
    u32::try_from(rest).unwrap_or(0)
}

/// Infineon's generator made primes k·M + 65537^a mod M, so that the modulus is, modulo each
/// small prime, a power of 65537 (Nemec et al., "The Return of Coppersmith's Attack", 2017).
fn is_roca(modulus: &[u8]) -> bool {
    ROCA_PRIMES
        .iter()
        .all(|p| is_power_of_65537(remainder(modulus, *p), *p))
}

fn is_power_of_65537(value: u32, prime: u32) -> bool {
    let generator = 65_537 % prime;
    let mut power = 1;
    for _ in 0..prime {
        if power == value {
            return true;
        }
        power = power * generator % prime;
    }
    false
}

/// The odd primes that divide Infineon's M for 512-bit keys, where 65537 does not generate everything.
const ROCA_PRIMES: &[u32] = &[
    11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157,
];

/// p·q with p close to q: n = a² − b² for a just above √n.
fn check_fermat(n: &BoxedUint) -> Result<(), InvalidKey> {
    let root = n.floor_sqrt_vartime();
    let one = BoxedUint::one_with_precision(n.bits_precision());
    let mut a = if root.wrapping_mul(&root) == *n {
        root
    } else {
        root.wrapping_add(&one)
    };
    for _ in 0..FERMAT_ROUNDS {
        let difference = a.wrapping_mul(&a).wrapping_sub(n);
        if may_be_square(&difference) && is_square(&difference) {
            return Err(InvalidKey::RsaWeak(
                "its two primes are too close to each other",
            ));
        }
        a = a.wrapping_add(&one);
    }
    Ok(())
}

/// 44 of the 256 low bytes belong to squares: five of six square roots are saved.
fn may_be_square(n: &BoxedUint) -> bool {
    let low = n.to_le_bytes().first().copied().unwrap_or(0);
    (0..=u8::MAX).any(|root| root.wrapping_mul(root) == low)
}

fn is_square(n: &BoxedUint) -> bool {
    let root = n.floor_sqrt_vartime();
    root.wrapping_mul(&root) == *n
}
