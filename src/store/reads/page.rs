//! Page numbers of lists. The existing client numbers pages from 1.

/// The number of a page, at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page(i64);

impl Page {
    /// The first page.
    pub const FIRST: Self = Self(1);

    /// `None` if `number` is below 1.
    pub fn new(number: i64) -> Option<Self> {
        (number >= 1).then_some(Self(number))
    }

    /// How many rows come before this page, with `size` rows per page.
    pub(super) fn offset(self, size: i64) -> i64 {
        (self.0 - 1).saturating_mul(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_numbered_from_one_and_the_highest_number_does_not_overflow() {
        assert_eq!(Page::new(0), None);
        assert_eq!(Page::new(1), Some(Page::FIRST));
        assert_eq!((Page::FIRST.offset(10), Page(3).offset(10), Page(i64::MAX).offset(10)), (0, 20, i64::MAX));
    }
}
