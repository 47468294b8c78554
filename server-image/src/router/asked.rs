//! What a request asks for by its headers.

use hyper::header::{HeaderMap, HeaderValue};

use super::headers::{REVISION, VARIANT};
use super::refusal::{self, Refusal};
use super::table::Table;
use super::variant::{Revision, Variant};

/// The arm or revision that a request names: the sign of a test or an evaluation, which counts in no window.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// The arm, where an arm or a revision is named.
    pub variant: Option<&'a Variant>,
    /// The revision of that arm, where one is named.
    pub revision: Option<&'a Revision>,
}

impl<'a> Asked<'a> {
    /// Reads `x-slipway-variant` and `x-slipway-revision`.
    pub fn read(table: &'a Table, headers: &HeaderMap) -> Result<Self, Refusal> {
        let variant = headers
            .get(&VARIANT)
            .map(|name| find_variant(table, name))
            .transpose()?;
        match headers.get(&REVISION) {
            None => Ok(Self {
                variant,
                revision: None,
            }),
            Some(name) => {
                let (variant, revision) = find_revision(table, variant, name)?;
                Ok(Self {
                    variant: Some(variant),
                    revision: Some(revision),
                })
            }
        }
    }

    /// Whether it names anything.
    pub fn is_some(&self) -> bool {
        self.variant.is_some()
    }

    /// What to say where no server of it is ready.
    pub fn unready(&self) -> Refusal {
        match (self.variant, self.revision) {
            (None, _) => refusal::no_server(),
            (Some(variant), None) => refusal::unready_variant(&variant.name),
            (Some(variant), Some(revision)) => refusal::unready_revision(&variant.name, &revision.name),
        }
    }
}

fn find_variant<'a>(table: &'a Table, name: &HeaderValue) -> Result<&'a Variant, Refusal> {
    let found = table.variants.iter().find(|variant| variant.name_header == name);
    found.ok_or_else(|| {
        let known = table.variants.iter().map(|variant| variant.name.as_str());
        refusal::unknown_variant(&String::from_utf8_lossy(name.as_bytes()), known)
    })
}

/// A revision of `variant`, or of any arm. Where several arms have it, one of them that can answer.
fn find_revision<'a>(
    table: &'a Table,
    variant: Option<&'a Variant>,
    name: &HeaderValue,
) -> Result<(&'a Variant, &'a Revision), Refusal> {
    let arms = variant.map_or(table.variants.as_slice(), std::slice::from_ref);
    let all = arms
        .iter()
        .flat_map(|variant| variant.revisions().map(move |revision| (variant, revision)));
    let mut named = all
        .clone()
        .filter(|(_, revision)| revision.header.as_ref() == Some(name));
    let ready = named.clone().find(|(_, revision)| revision.target.has_ready());
    ready.or_else(|| named.next()).ok_or_else(|| {
        let place = variant.map(|variant| variant.name.as_str());
        let known = all.map(|(_, revision)| revision.name.as_str());
        refusal::unknown_revision(&String::from_utf8_lossy(name.as_bytes()), place, known)
    })
}
