//! Reloading the settings while the node runs: which of them can change then, and which need a restart.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use secrecy::ExposeSecret;

use super::{Settings, SettingsError, auth_settings::Auth, build::Node};
use crate::http::{Keys, LiveConfig, RateLimits};

/// What a reload has changed.
#[derive(Debug)]
pub struct SettingsChange {
    /// Keys whose new values are in force.
    pub applied: Vec<String>,
    /// Keys whose new values take effect only after a restart.
    pub needs_restart: Vec<String>,
}

impl Node {
    /// Applies those of the new settings that can change while the node runs. `keys` are those of the new settings, read
    /// where nobody waits for it.
    ///
    /// # Errors
    /// A new setting is invalid, by itself or beside those that stay. Then nothing is changed.
    pub fn change_settings(&mut self, new: &Settings, keys: Keys) -> Result<SettingsChange, SettingsError> {
        new.check()?;
        new.check_serve()?;
        let merged = self.settings.with_live_values_of(new);
        // The new live values must also fit the old values that stay until a restart.
        merged.check()?;
        merged.check_serve()?;
        let before = self.services.live.load_full();
        let mut applied = self.settings.differences(&merged);
        // A file may have changed while its name has not.
        let file = "auth.public_key_file";
        let is_named = applied.iter().any(|key| key == file);
        if merged.auth.public_key_file.is_some() && !is_named && !keys.accepts_same_keys(&before.keys) {
            applied.push(file.to_owned());
        }
        let live = merged.live(keys, Some((&self.settings, &before)))?;
        let change = SettingsChange { applied, needs_restart: merged.differences(new) };
        self.services.live.store(Arc::new(live));
        self.settings = merged;
        Ok(change)
    }
}

impl Settings {
    /// The values that can change while the node runs. If the rates stay the same, `before`'s counters are kept.
    ///
    /// # Errors
    /// A value that [`check`](Self::check) or [`check_serve`](Self::check_serve) refuses.
    pub fn live(&self, keys: Keys, before: Option<(&Self, &LiveConfig)>) -> Result<LiveConfig, SettingsError> {
        let rates = match before {
            Some((settings, live)) if settings.rates() == self.rates() => Arc::clone(&live.rates),
            _ => Arc::new(RateLimits::new(&self.rates())),
        };
        Ok(LiveConfig::new(keys, self.origins()?, rates, self.alarms.locale, self.auth.metrics_token.clone()))
    }

    /// These settings, with the values of `new` for everything that can change while the node runs: tokens and
    /// their keys, origins, rates, locale, log.
    #[must_use]
    pub fn with_live_values_of(&self, new: &Self) -> Self {
        let mut merged = self.clone();
        merged.auth = Auth {
            insecure_dev_secret: self.auth.insecure_dev_secret,
            dev_login: self.auth.dev_login,
            ..new.auth.clone()
        };
        merged.server.allowed_origins.clone_from(&new.server.allowed_origins);
        merged.limits.bids_per_second = new.limits.bids_per_second;
        merged.limits.lines_per_second = new.limits.lines_per_second;
        merged.limits.requests_per_second = new.limits.requests_per_second;
        merged.alarms.locale = new.alarms.locale;
        merged.log = new.log.clone();
        merged
    }

    /// The keys whose values differ, sorted.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let (mine, theirs) = (self.by_key(), other.by_key());
        let keys: BTreeSet<&String> = mine.keys().chain(theirs.keys()).collect();
        keys.into_iter().filter(|key| mine.get(*key) != theirs.get(*key)).cloned().collect()
    }

    /// Every key with its value. Secrets are not masked: masked ones look alike.
    fn by_key(&self) -> BTreeMap<String, toml::Value> {
        let mut values = BTreeMap::new();
        for (section, keys) in toml::Table::try_from(self).unwrap_or_default() {
            let keys = keys.as_table().cloned().unwrap_or_default();
            values.extend(keys.into_iter().map(|(key, value)| (format!("{section}.{key}"), value)));
        }
        let [secret, previous] = self.auth.secrets();
        let secrets = [
            secret,
            previous,
            ("auth.metrics_token", self.auth.metrics_token.as_ref()),
            ("database.url", Some(&self.database.url)),
            ("bus.url", self.bus.url.as_ref()),
        ];
        let set =
            secrets.into_iter().filter_map(|(key, secret)| Some((key.to_owned(), secret?.expose_secret().into())));
        values.extend(set);
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::settings::DEFAULTS;
    use serde::Deserialize;

    /// Tokens and their keys, who may read metrics, origins, rates, locale, the log (`docs/protocol.md#settings`).
    const LIVE: [&str; 18] = [
        "alarms.locale",
        "auth.admin_claim",
        "auth.algorithm",
        "auth.audience",
        "auth.issuer",
        "auth.jwt_secret",
        "auth.jwt_secret_previous",
        "auth.metrics_token",
        "auth.public_key_file",
        "auth.user_id_claim",
        "auth.username_claim",
        "limits.bids_per_second",
        "limits.lines_per_second",
        "limits.requests_per_second",
        "log.access",
        "log.format",
        "log.level",
        "server.allowed_origins",
    ];

    /// Every key in config/default.toml, with or without a default.
    fn all_keys() -> Vec<(String, String)> {
        let mut section = "";
        let mut keys = Vec::new();
        for line in DEFAULTS.lines() {
            let line = line.trim_start_matches("# ");
            let name = line.split_whitespace().next().unwrap_or_default();
            let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            if let Some(header) = line.strip_prefix('[') {
                section = header.trim_end_matches(']');
            } else if is_name && !section.is_empty() {
                keys.push((section.to_owned(), name.to_owned()));
            }
        }
        keys
    }

    fn with(section: &str, key: &str, value: toml::Value) -> Option<Settings> {
        let mut all: toml::Table = DEFAULTS.parse().unwrap();
        all[section].as_table_mut().unwrap().insert(key.to_owned(), value);
        Settings::deserialize(all).ok()
    }

    /// The defaults, with another value of the right type for this key.
    fn with_other_value(section: &str, key: &str) -> Settings {
        let values = [
            4711.into(),
            "other".into(),
            true.into(),
            false.into(),
            vec!["other"].into(),
            "en".into(),
            "json".into(),
            "RS256".into(),
        ];
        let defaults = Settings::defaults().unwrap();
        let changed = values.into_iter().find_map(|value: toml::Value| {
            with(section, key, value).filter(|changed| !defaults.differences(changed).is_empty())
        });
        changed.unwrap_or_else(|| panic!("{section}.{key} takes no value"))
    }

    #[test]
    fn a_change_of_any_key_is_either_applied_or_reported_to_need_a_restart() {
        let defaults = Settings::defaults().unwrap();
        let keys = all_keys();
        assert!(keys.len() >= 33, "{keys:?}");
        for (section, name) in keys {
            let key = format!("{section}.{name}");
            let new = with_other_value(&section, &name);
            assert_eq!(defaults.differences(&new), std::slice::from_ref(&key), "the change is noticed");
            let merged = defaults.with_live_values_of(&new);
            let (applied, needs_restart) = (defaults.differences(&merged), merged.differences(&new));
            let is_live = LIVE.contains(&&*key);
            assert_eq!((applied.len(), needs_restart.len()), (usize::from(is_live), usize::from(!is_live)), "{key}");
        }
    }

    #[test]
    fn a_change_of_a_masked_value_is_noticed() {
        let of = |url: &str| with("database", "url", url.into()).unwrap();
        let (one, other) = (of("postgres://me:first@db/x"), of("postgres://me:second@db/x"));
        assert_eq!(one.show(), other.show());
        assert_eq!(one.differences(&other), ["database.url"]);
        let of = |key: &str| with("auth", "jwt_secret", key.into()).unwrap();
        assert_eq!(of("one").differences(&of("other")), ["auth.jwt_secret"]);
    }
}
