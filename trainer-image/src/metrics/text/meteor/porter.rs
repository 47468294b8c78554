//! Porter's stemmer (1980) with nltk's extensions: `PorterStemmer().stem`. Pure.

/// Words whose stems no rule finds.
const IRREGULAR: [(&str, &str); 16] = [
    ("sky", "sky"),
    ("skies", "sky"),
    ("dying", "die"),
    ("lying", "lie"),
    ("tying", "tie"),
    ("news", "news"),
    ("innings", "inning"),
    ("inning", "inning"),
    ("outings", "outing"),
    ("outing", "outing"),
    ("cannings", "canning"),
    ("canning", "canning"),
    ("howe", "howe"),
    ("proceed", "proceed"),
    ("exceed", "exceed"),
    ("succeed", "succeed"),
];

const STEP_2: [(&str, &str); 22] = [
    ("ational", "ate"),
    ("tional", "tion"),
    ("enci", "ence"),
    ("anci", "ance"),
    ("izer", "ize"),
    ("bli", "ble"),
    ("alli", "al"),
    ("entli", "ent"),
    ("eli", "e"),
    ("ousli", "ous"),
    ("ization", "ize"),
    ("ation", "ate"),
    ("ator", "ate"),
    ("alism", "al"),
    ("iveness", "ive"),
    ("fulness", "ful"),
    ("ousness", "ous"),
    ("aliti", "al"),
    ("iviti", "ive"),
    ("biliti", "ble"),
    ("fulli", "ful"),
    ("logi", "log"),
];

const STEP_3: [(&str, &str); 7] = [
    ("icate", "ic"),
    ("ative", ""),
    ("alize", "al"),
    ("iciti", "ic"),
    ("ical", "ic"),
    ("ful", ""),
    ("ness", ""),
];

const STEP_4: [(&str, &str); 19] = [
    ("al", ""),
    ("ance", ""),
    ("ence", ""),
    ("er", ""),
    ("ic", ""),
    ("able", ""),
    ("ible", ""),
    ("ant", ""),
    ("ement", ""),
    ("ment", ""),
    ("ent", ""),
    ("ion", ""),
    ("ou", ""),
    ("ism", ""),
    ("ate", ""),
    ("iti", ""),
    ("ous", ""),
    ("ive", ""),
    ("ize", ""),
];

/// The stem of a word in lower case.
pub(super) fn stem(word: &str) -> String {
    if let Some((_, stem)) = IRREGULAR.iter().find(|(form, _)| *form == word) {
        return (*stem).to_owned();
    }
    if word.chars().count() <= 2 {
        return word.to_owned();
    }
    let word = step_2(&step_1c(&step_1b(&step_1a(word))));
    let word = rewrite(&word, &STEP_3, |_, stem| measure(stem) > 0);
    let word = rewrite(&word, &STEP_4, |suffix, stem| {
        measure(stem) > 1 && (suffix != "ion" || stem.ends_with(['s', 't']))
    });
    step_5(&word)
}

/// Plurals.
fn step_1a(word: &str) -> String {
    if let Some(stem) = word.strip_suffix("ies")
        && stem.chars().count() == 1
    {
        return format!("{stem}ie");
    }
    let rules = [("sses", "ss"), ("ies", "i"), ("ss", "ss"), ("s", "")];
    rewrite(word, &rules, |_, _| true)
}

/// Past tenses and present participles.
fn step_1b(word: &str) -> String {
    if let Some(stem) = word.strip_suffix("ied") {
        return format!("{stem}{}", if stem.chars().count() == 1 { "ie" } else { "i" });
    }
    if let Some(stem) = word.strip_suffix("eed") {
        return if measure(stem) > 0 {
            format!("{stem}ee")
        } else {
            word.to_owned()
        };
    }
    let stem = ["ed", "ing"]
        .iter()
        .filter_map(|suffix| word.strip_suffix(suffix))
        .find(|stem| consonants(stem).contains(&false));
    let Some(stem) = stem else {
        return word.to_owned();
    };
    if ["at", "bl", "iz"].iter().any(|end| stem.ends_with(end)) {
        return format!("{stem}e");
    }
    if let Some(last) = double_consonant(stem) {
        let single = &stem[..stem.len() - last.len_utf8()];
        return if "lsz".contains(last) { stem } else { single }.to_owned();
    }
    if measure(stem) == 1 && ends_cvc(stem) {
        return format!("{stem}e");
    }
    stem.to_owned()
}

/// `y` after a consonant that is not the first letter.
fn step_1c(word: &str) -> String {
    rewrite(word, &[("y", "i")], |_, stem| {
        let consonants = consonants(stem);
        consonants.len() > 1 && consonants.last() == Some(&true)
    })
}

fn step_2(word: &str) -> String {
    if let Some(stem) = word.strip_suffix("alli")
        && measure(stem) > 0
    {
        return step_2(&format!("{stem}al"));
    }
    rewrite(word, &STEP_2, |suffix, stem| {
        // The l of logi belongs to the stem: geo, theo.
        measure(stem) > 0 || (suffix == "logi" && measure(&format!("{stem}l")) > 0)
    })
}

/// A final `e`, and the second of a final `ll`.
fn step_5(word: &str) -> String {
    let word = match word.strip_suffix('e') {
        Some(stem) if measure(stem) > 1 || (measure(stem) == 1 && !ends_cvc(stem)) => stem,
        _ => word,
    };
    match word.strip_suffix('l') {
        Some(single) if single.ends_with('l') && measure(single) > 1 => single.to_owned(),
        _ => word.to_owned(),
    }
}

/// Replaces the suffix of the first rule that applies to `word`, if `condition` holds for that suffix and what is before
/// it. No further rule is tried.
fn rewrite(word: &str, rules: &[(&str, &str)], condition: impl Fn(&str, &str) -> bool) -> String {
    for (suffix, replacement) in rules {
        if let Some(stem) = word.strip_suffix(suffix) {
            return if condition(suffix, stem) {
                format!("{stem}{replacement}")
            } else {
                word.to_owned()
            };
        }
    }
    word.to_owned()
}

/// Whether each letter is a consonant: none of aeiou, and no `y` after a consonant.
fn consonants(word: &str) -> Vec<bool> {
    let mut flags = Vec::new();
    for letter in word.chars() {
        flags.push(match letter {
            'a' | 'e' | 'i' | 'o' | 'u' => false,
            'y' => flags.last().is_none_or(|before| !before),
            _ => true,
        });
    }
    flags
}

/// How often vowels are followed by consonants.
fn measure(stem: &str) -> usize {
    consonants(stem)
        .windows(2)
        .filter(|pair| !pair[0] && pair[1])
        .count()
}

/// The consonant that the word ends in twice.
fn double_consonant(word: &str) -> Option<char> {
    let mut letters = word.chars().rev();
    let last = letters.next()?;
    (letters.next() == Some(last) && consonants(word).last() == Some(&true)).then_some(last)
}

/// Whether the word ends in a consonant, a vowel and a consonant other than w, x and y, or is a vowel and a consonant.
fn ends_cvc(word: &str) -> bool {
    match consonants(word).as_slice() {
        [.., true, false, true] => !word.ends_with(['w', 'x', 'y']),
        [false, true] => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Expected values: nltk.stem.PorterStemmer().stem.
    #[test]
    fn stems_are_those_of_nltk() {
        for (word, expected) in [
            ("caresses", "caress"),
            ("ponies", "poni"),
            ("ties", "tie"),
            ("flies", "fli"),
            ("cats", "cat"),
            ("feed", "feed"),
            ("agreed", "agre"),
            ("died", "die"),
            ("plastered", "plaster"),
            ("sing", "sing"),
            ("hopping", "hop"),
            ("falling", "fall"),
            ("filing", "file"),
            ("happy", "happi"),
            ("enjoy", "enjoy"),
            ("relational", "relat"),
            ("radically", "radic"),
            ("theology", "theolog"),
            ("geology", "geolog"),
            ("hopefully", "hope"),
            ("adoption", "adopt"),
            ("probate", "probat"),
            ("controlling", "control"),
            ("skies", "sky"),
            ("yyyy", "yyyi"),
            ("is", "is"),
            ("日本語s", "日本語"),
        ] {
            assert_eq!(stem(word), expected, "{word}");
        }
    }
}
