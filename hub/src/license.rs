//! Licences as model and dataset cards state them, and whether they let weights be passed on. Pure.
//!
//! The ids are those of the Hub's documentation of licences ("Licenses", `repositories-licenses.md`), most of
//! which are SPDX ids in lower case. The table below names the ones whose text lets anybody publish changed
//! copies, if need be under the same licence or without profit: OSI-approved licences, Creative Commons without
//! `nd`, Open Data Commons, CDLA, and the RAIL family. Everything else (no-derivatives and research-only
//! licences, the vendors' own such as `llama3.1` or `gemma`, `other`, `unknown`, ids that are new) is for a
//! person to read. This is a guard against publishing by mistake, no legal advice.

use std::fmt;

use serde_json::Value;

use crate::card::Card;

/// Licences under which changed copies of weights may be published.
const PERMITTED: &[&str] = &[
    "afl-3.0",
    "agpl-3.0",
    "apache-2.0",
    "artistic-2.0",
    "bigcode-openrail-m",
    "bigscience-bloom-rail-1.0",
    "bigscience-openrail-m",
    "bsd",
    "bsd-2-clause",
    "bsd-3-clause",
    "bsd-3-clause-clear",
    "bsl-1.0",
    "cc-by-2.0",
    "cc-by-2.5",
    "cc-by-3.0",
    "cc-by-4.0",
    "cc-by-nc-2.0",
    "cc-by-nc-3.0",
    "cc-by-nc-4.0",
    "cc-by-nc-sa-2.0",
    "cc-by-nc-sa-3.0",
    "cc-by-nc-sa-4.0",
    "cc-by-sa-3.0",
    "cc-by-sa-4.0",
    "cc0-1.0",
    "cdla-permissive-1.0",
    "cdla-permissive-2.0",
    "cdla-sharing-1.0",
    "creativeml-openrail-m",
    "ecl-2.0",
    "epl-1.0",
    "epl-2.0",
    "etalab-2.0",
    "eupl-1.1",
    "eupl-1.2",
    "gfdl",
    "gpl",
    "gpl-2.0",
    "gpl-3.0",
    "isc",
    "lgpl",
    "lgpl-2.1",
    "lgpl-3.0",
    "lgpl-lr",
    "lppl-1.3c",
    "mit",
    "mpl-2.0",
    "ms-pl",
    "ncsa",
    "odbl",
    "odc-by",
    "ofl-1.1",
    "openmdw-1.0",
    "openrail",
    "openrail++",
    "osl-3.0",
    "pddl",
    "postgresql",
    "unlicense",
    "wtfpl",
    "zlib",
];

/// What stands for the licence of a repository that states none.
pub const UNSTATED: &str = "unknown";

/// What a card says about its licence.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct License {
    /// `license`: ids of the Hub; several where a card lists several, none where it states no licence.
    pub ids: Vec<String>,
    /// `license_name`: the name of one that has no id (`license: other`).
    pub name: Option<String>,
    /// `license_link`: where its text is; a path is one within the repository.
    pub link: Option<String>,
}

impl License {
    /// Of a card's metadata, by key.
    pub fn of(metadata: impl Fn(&str) -> Option<Value>) -> Self {
        let text = |value: Value| match value {
            Value::String(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
            _ => None,
        };
        let ids = match metadata("license") {
            Some(Value::Array(many)) => many.into_iter().filter_map(text).collect(),
            Some(one) => text(one).into_iter().collect(),
            None => Vec::new(),
        };
        Self {
            ids,
            name: metadata("license_name").and_then(text),
            link: metadata("license_link").and_then(text),
        }
    }

    /// Of the text of a card; one that cannot be read states none.
    pub fn of_card(text: &str) -> Self {
        Card::parse(text).map_or_else(|_| Self::default(), |card| Self::of(|key| card.get(key)))
    }

    /// Whether any is stated.
    pub fn is_stated(&self) -> bool {
        self.name.is_some() || !self.ids.is_empty()
    }

    /// Whether changed copies of weights under it may be published, or why that is for a person to decide.
    pub fn passing_on(&self) -> Result<(), Doubt> {
        // Of several it is not said whether one may choose or must keep to all: all must permit it.
        match self
            .ids
            .iter()
            .find(|id| !PERMITTED.contains(&lower(id).as_str()))
        {
            None if self.ids.is_empty() => Err(Doubt::Unstated),
            None => Ok(()),
            Some(id) if lower(id).split('-').any(|part| part == "nd") => Err(Doubt::NoDerivatives),
            Some(_) => Err(Doubt::Unlisted),
        }
    }

    /// Whether `accepted` names it: by its name or (one of) its ids, in upper or lower case.
    pub fn is_named_by(&self, accepted: &str) -> bool {
        let same = |known: &String| lower(known) == lower(accepted);
        if self.is_stated() {
            // `other` and `unknown` name nothing in particular where there is a name.
            self.name.as_ref().map_or_else(|| self.ids.iter().any(same), same)
        } else {
            lower(accepted) == UNSTATED
        }
    }
}

fn lower(text: &str) -> String {
    text.trim().to_ascii_lowercase()
}

/// As a person names it.
impl fmt::Display for License {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => f.write_str(name),
            None if self.ids.is_empty() => f.write_str(UNSTATED),
            None => f.write_str(&self.ids.join(", ")),
        }
    }
}

/// Why weights are not published without a person's word.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Doubt {
    /// The card states no licence: all rights are reserved.
    Unstated,
    /// Changed copies may not be passed on.
    NoDerivatives,
    /// Not among those known to permit it.
    Unlisted,
    /// The repository hands its files out only to those who agreed to its terms.
    Gated,
}

/// Whether weights derived from `repo` may be published: its licence permits it and its files are handed out
/// freely, or `accepted` names its licence. Otherwise one sentence that says what to do.
pub fn may_publish(repo: &str, license: &License, gated: bool, accepted: Option<&str>) -> Result<(), String> {
    let doubt = match license.passing_on() {
        Ok(()) if gated => Doubt::Gated,
        Ok(()) => return Ok(()),
        Err(doubt) => doubt,
    };
    if accepted.is_some_and(|accepted| license.is_named_by(accepted)) {
        return Ok(());
    }
    let why = match doubt {
        Doubt::Unstated => "states no licence".to_owned(),
        Doubt::NoDerivatives => {
            format!("is under {license}, which forbids passing on changed copies")
        }
        Doubt::Unlisted => {
            format!("is under {license}, which is not among the licences known to let weights be passed on")
        }
        Doubt::Gated => "is gated: its files are only for those who agreed to its terms".to_owned(),
    };
    let named = match accepted {
        Some(accepted) => format!(" (output.acceptLicense is {accepted})"),
        None => String::new(),
    };
    // Of several, the first that needs it.
    let name = match (&license.name, license.ids.first()) {
        (Some(name), _) => name.as_str(),
        (None, Some(id)) => id.as_str(),
        (None, None) => UNSTATED,
    };
    Err(format!(
        "{repo} {why}, and the output would contain its weights{named}; publish an adapter (method.lora without output.merge), or, where its terms permit you to publish them, set output.acceptLicense: {name}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stated(yaml: &str) -> License {
        License::of_card(&format!("---\n{yaml}\n---\n# Model\n"))
    }

    #[test]
    fn a_card_states_one_several_named_or_no_licences() {
        assert_eq!(stated("license: mit").ids, ["mit"]);
        assert_eq!(stated("license: [mit, apache-2.0]").ids, ["mit", "apache-2.0"]);
        let named = stated("license: other\nlicense_name: acme-research\nlicense_link: LICENSE.md");
        assert_eq!(
            (named.to_string().as_str(), named.link.as_deref()),
            ("acme-research", Some("LICENSE.md"))
        );
        for nothing in ["language: en", "license:", "license: ''", "license: 7"] {
            assert!(!stated(nothing).is_stated(), "{nothing}");
        }
        assert!(!License::of_card("---\na: [\n---\n").is_stated());
    }

    #[test]
    fn what_is_not_known_to_permit_it_is_for_a_person() {
        for id in [
            "mit",
            "Apache-2.0",
            "cc-by-4.0",
            "cc-by-nc-sa-4.0",
            "gpl-3.0",
            "openrail++",
        ] {
            assert_eq!(stated(&format!("license: {id}")).passing_on(), Ok(()), "{id}");
        }
        for (id, doubt) in [
            ("cc-by-nd-4.0", Doubt::NoDerivatives),
            ("cc-by-nc-nd-3.0", Doubt::NoDerivatives),
            ("other", Doubt::Unlisted),
            ("unknown", Doubt::Unlisted),
            ("llama3.1", Doubt::Unlisted),
            ("gemma", Doubt::Unlisted),
            ("cc", Doubt::Unlisted),
            ("apple-amlr", Doubt::Unlisted),
            ("[mit, other]", Doubt::Unlisted),
            ("licence-of-tomorrow", Doubt::Unlisted),
        ] {
            assert_eq!(stated(&format!("license: {id}")).passing_on(), Err(doubt), "{id}");
        }
        assert_eq!(License::default().passing_on(), Err(Doubt::Unstated));
    }

    #[test]
    fn the_table_is_sorted_in_lower_case_and_has_no_no_derivatives_licence() {
        assert!(PERMITTED.is_sorted());
        for id in PERMITTED {
            assert_eq!(*id, lower(id));
            assert!(!id.split('-').any(|part| part == "nd"), "{id}");
        }
    }

    #[test]
    fn a_person_accepts_by_naming_exactly_that_licence() {
        let named = stated("license: other\nlicense_name: acme-research");
        let error = may_publish("acme/x", &named, false, None).unwrap_err();
        assert!(
            error.starts_with("acme/x is under acme-research")
                && error.ends_with("output.acceptLicense: acme-research"),
            "{error}"
        );
        for wrong in ["other", "mit", "yes", "*", ""] {
            let error = may_publish("acme/x", &named, false, Some(wrong)).unwrap_err();
            assert!(error.contains(&format!("is {wrong})")), "{error}");
        }
        assert_eq!(
            may_publish("acme/x", &named, false, Some("Acme-Research")),
            Ok(())
        );
        assert_eq!(may_publish("acme/x", &named, true, Some("acme-research")), Ok(()));

        let mit = stated("license: mit");
        assert_eq!(may_publish("acme/x", &mit, false, None), Ok(()));
        assert!(
            may_publish("acme/x", &mit, true, None)
                .unwrap_err()
                .contains("gated")
        );
        assert_eq!(may_publish("acme/x", &mit, true, Some("mit")), Ok(()));

        let none = License::default();
        let error = may_publish("acme/x", &none, false, Some("mit")).unwrap_err();
        assert!(
            error.contains("states no licence") && error.ends_with("output.acceptLicense: unknown"),
            "{error}"
        );
        assert_eq!(may_publish("acme/x", &none, true, Some("unknown")), Ok(()));
    }
}
