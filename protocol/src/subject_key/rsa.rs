//! Rules for RSA public keys: size, exponent, and moduli that are known to be breakable.
//! Not a factoring tool: strangers send keys, so that all checks of the longest take a fraction of a millisecond.

use std::sync::LazyLock;

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
    let modulus = Digits::of(modulus);
    check_small_factors(&modulus)?;
    if is_roca(&modulus) {
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

/// The primes below 752 in groups whose products are digits, so that a modulus is divided some forty times and not 132.
static SMALL_PRIMES: LazyLock<Vec<(u32, Vec<u32>)>> = LazyLock::new(|| {
    let primes = (2..752_u32).filter(|n| (2..*n).all(|d| n % d != 0));
    let mut groups: Vec<(u32, Vec<u32>)> = Vec::new();
    for prime in primes {
        match groups.last_mut() {
            Some((product, group)) if product.checked_mul(prime).is_some() => {
                *product = product.saturating_mul(prime);
                group.push(prime);
            }
            _ => groups.push((prime, vec![prime])),
        }
    }
    groups
});

/// A number in base 2³², the highest digit first.
struct Digits(Vec<u32>);

impl Digits {
    fn of(magnitude: &[u8]) -> Self {
        let digit = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(0, |sum, byte| (sum << 8) | u32::from(*byte))
        };
        let mut digits: Vec<u32> = magnitude.rchunks(4).map(digit).collect();
        digits.reverse();
        Self(digits)
    }

    fn remainder(&self, divisor: u32) -> u32 {
        let divisor = u64::from(divisor);
        let rest = self.0.iter().fold(0_u64, |rest, digit| {
            ((rest << 32) | u64::from(*digit)) % divisor
        });
        u32::try_from(rest).unwrap_or(0)
    }
}

fn check_small_factors(modulus: &Digits) -> Result<(), InvalidKey> {
    let composite = SMALL_PRIMES.iter().any(|(product, group)| {
        let rest = modulus.remainder(*product);
        group.iter().any(|prime| rest.is_multiple_of(*prime))
    });
    if composite {
        Err(InvalidKey::RsaWeak("its modulus has a small factor"))
    } else {
        Ok(())
    }
}

/// Infineon's generator made primes k·M + 65537^a mod M, so that the modulus is, modulo each
/// small prime, a power of 65537 (Nemec et al., "The Return of Coppersmith's Attack", 2017).
fn is_roca(modulus: &Digits) -> bool {
    ROCA_PRIMES
        .iter()
        .all(|p| is_power_of_65537(modulus.remainder(*p), *p))
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
    let sieve = Sieve::of(n, &a);
    for round in 0..FERMAT_ROUNDS {
        if sieve.may_be_square(round) && is_square(&a.wrapping_mul(&a).wrapping_sub(n)) {
            return Err(InvalidKey::RsaWeak(
                "its two primes are too close to each other",
            ));
        }
        a = a.wrapping_add(&one);
    }
    Ok(())
}

/// What (a + round)² − n is modulo small numbers: one in eighty may be a square, and only of those a root is taken. Strangers
/// send keys; a long one cost 1.7 ms before.
struct Sieve(Vec<(u32, u32, u32)>);

impl Sieve {
    const MODULI: [u32; 6] = [256, 9, 5, 7, 11, 13];

    fn of(n: &BoxedUint, a: &BoxedUint) -> Self {
        let (n, a) = (Digits::of(&n.to_be_bytes()), Digits::of(&a.to_be_bytes()));
        let rests = Self::MODULI.map(|m| (m, n.remainder(m), a.remainder(m)));
        Self(rests.to_vec())
    }

    fn may_be_square(&self, round: u32) -> bool {
        self.0.iter().all(|(m, n, a)| {
            let root = (a + round) % m;
            let difference = (root * root + m - n) % m;
            (0..*m).any(|root| root * root % m == difference)
        })
    }
}

fn is_square(n: &BoxedUint) -> bool {
    let root = n.floor_sqrt_vartime();
    root.wrapping_mul(&root) == *n
}
