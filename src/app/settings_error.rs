//! The error of the settings.

/// A setting with an invalid value, as one line: its key, and what is wrong with it or what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct SettingsError {
    key: String,
    problem: String,
}

pub(super) fn invalid(key: &str, problem: impl Into<String>) -> SettingsError {
    SettingsError { key: key.to_owned(), problem: problem.into() }
}
