//! Reading single values out of AWS's XML answers. The lab asks for few and well-known ones.

use quick_xml::Reader;
use quick_xml::events::Event;

/// The text of the first element with this local name, unescaped.
pub(crate) fn text(document: &str, name: &str) -> Option<String> {
    texts(document, name).into_iter().next()
}

/// The texts of all elements with this local name that have no children.
pub(crate) fn texts(document: &str, name: &str) -> Vec<String> {
    let mut reader = Reader::from_str(document);
    let mut found = Vec::new();
    let mut inside: Option<String> = None;
    while let Ok(event) = reader.read_event() {
        match event {
            Event::Start(tag) => inside = (tag.local_name().as_ref() == name).then(String::new),
            Event::Text(text) => push(&mut inside, &text),
            Event::GeneralRef(entity) => push(&mut inside, entity_text(&entity)),
            Event::End(_) => found.extend(inside.take()),
            Event::Eof => break,
            _ => {}
        }
    }
    found
}

/// Text as XML content.
pub(crate) fn escaped(text: &str) -> String {
    quick_xml::escape::escape(text).into_owned()
}

fn push(inside: &mut Option<String>, text: &str) {
    if let Some(value) = inside {
        value.push_str(text);
    }
}

fn entity_text(name: &str) -> &'static str {
    match name {
        "amp" => "&",
        "lt" => "<",
        "gt" => ">",
        "quot" => "\"",
        "apos" => "'",
        _ => "\u{fffd}",
    }
}
