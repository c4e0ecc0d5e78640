//! The SSH wire encoding (RFC 4251 §5): bounded reading, writing that checks lengths.
//! Not a parser of any message; each caller knows its own fields.

/// Appends SSH-encoded fields to a buffer.
#[derive(Clone, Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// An empty buffer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// `string`: u32 length and the bytes.
    pub fn string(&mut self, bytes: &[u8]) -> &mut Self {
        // Every value of ours is bounded far below 4 GiB by the type that holds it;
        // a longer one gives a length that no reader accepts.
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.u32(length);
        self.0.extend_from_slice(bytes);
        self
    }

    /// `uint32`.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// `uint64`.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// `byte`.
    pub fn byte(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    /// Bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// `mpint` of an unsigned big-endian number.
    pub fn mpint(&mut self, magnitude: &[u8]) -> &mut Self {
        let zeros = magnitude.iter().take_while(|b| **b == 0).count();
        let digits = magnitude.get(zeros..).unwrap_or_default();
        if digits.first().is_some_and(|b| b & 0x80 != 0) {
            let mut padded = Vec::with_capacity(digits.len() + 1);
            padded.push(0);
            padded.extend_from_slice(digits);
            self.string(&padded)
        } else {
            self.string(digits)
        }
    }

    /// The bytes so far.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// The bytes.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// Reads SSH-encoded fields; never allocates, never reads past the end.
#[derive(Clone, Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// [`Truncated`] where fewer are left.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Truncated> {
        let (head, tail) = self.0.split_at_checked(count).ok_or(Truncated)?;
        self.0 = tail;
        Ok(head)
    }

    /// `byte`.
    ///
    /// # Errors
    /// [`Truncated`].
    pub fn byte(&mut self) -> Result<u8, Truncated> {
        self.take(1)?.first().copied().ok_or(Truncated)
    }

    /// `uint32`.
    ///
    /// # Errors
    /// [`Truncated`].
    pub fn u32(&mut self) -> Result<u32, Truncated> {
        let bytes = self.take(4)?.try_into().map_err(|_| Truncated)?;
        Ok(u32::from_be_bytes(bytes))
    }

    /// `uint64`.
    ///
    /// # Errors
    /// [`Truncated`].
    pub fn u64(&mut self) -> Result<u64, Truncated> {
        let bytes = self.take(8)?.try_into().map_err(|_| Truncated)?;
        Ok(u64::from_be_bytes(bytes))
    }

    /// `string`.
    ///
    /// # Errors
    /// [`Truncated`] where the announced length is not there.
    pub fn string(&mut self) -> Result<&'a [u8], Truncated> {
        let length = usize::try_from(self.u32()?).map_err(|_| Truncated)?;
        self.take(length)
    }

    /// What has not been read yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// Whether all was read.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }
}

/// The data ends before the field does.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("SSH data ends in the middle of a field")]
pub struct Truncated;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announced_lengths_beyond_the_end_are_refused() {
        // H-07: a 4 GiB length prefix costs nothing.
        assert_eq!(
            Reader::new(&[0xff, 0xff, 0xff, 0xff, 1]).string(),
            Err(Truncated)
        );
        assert_eq!(Reader::new(&[0, 0, 0]).u32(), Err(Truncated));
    }

    #[test]
    fn fields_are_read_as_they_were_written() {
        let mut w = Writer::new();
        w.string(b"ab").u32(7).u64(8).byte(9);
        let mut r = Reader::new(w.as_slice());
        assert_eq!(
            (r.string(), r.u32(), r.u64(), r.byte()),
            (Ok(&b"ab"[..]), Ok(7), Ok(8), Ok(9))
        );
        assert!(r.is_at_end());
    }

    #[test]
    fn mpints_are_minimal_and_positive() {
        let mpint = |m: &[u8]| Writer::new().mpint(m).as_slice().to_vec();
        assert_eq!(mpint(&[0, 0]), [0, 0, 0, 0]);
        assert_eq!(mpint(&[0, 0x7f]), [0, 0, 0, 1, 0x7f]);
        assert_eq!(mpint(&[0x80]), [0, 0, 0, 2, 0, 0x80]);
    }
}
