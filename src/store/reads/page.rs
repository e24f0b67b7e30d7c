//! Pages of lists, as the existing client asks for them: by number, from 1.

/// The number of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page(i64);

impl Page {
    /// Where every list begins.
    pub const FIRST: Self = Self(1);

    /// The page of that number; `None` below 1.
    pub fn new(number: i64) -> Option<Self> {
        (number >= 1).then_some(Self(number))
    }

    /// Rows of so long pages that lie before this one.
    pub(super) fn offset(self, size: i64) -> i64 {
        (self.0 - 1).saturating_mul(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_count_from_one_and_the_farthest_is_no_error() {
        assert_eq!(Page::new(0), None);
        assert_eq!(Page::new(1), Some(Page::FIRST));
        assert_eq!((Page::FIRST.offset(10), Page(3).offset(10), Page(i64::MAX).offset(10)), (0, 20, i64::MAX));
    }
}
