//! Positions in the order of a list, across all types of values.
//!
//! A comparison in a filter selects values of the same type only, but an index has values of all types, in the order of
//! their types. Documents of other programs may have any type of `key` and `_id`.

use mongodb::bson::{Bson, Document, RawDocument, RawDocumentBuf, doc};

use crate::model::{Position, Sort};
use crate::store::mongo::users::text;

/// The types that can be compared, as named by `$type`, in the server's order. Null is the lowest, and includes a
/// missing value.
const TYPES: [&[&str]; 9] = [
    &["number"],
    &["string", "symbol"],
    &["object"],
    &["array"],
    &["binData"],
    &["objectId"],
    &["bool"],
    &["date"],
    &["timestamp", "regex", "dbPointer", "javascript", "javascriptWithScope", "maxKey"],
];

/// The most levels of documents and arrays in a document that the server stores. In a filter it accepts 200.
const NESTING_LIMIT: usize = 100;

/// The position of a document; `None` if its `datetime` is not a text.
pub(super) fn position(document: &RawDocument) -> Option<Position> {
    let value = |name| document.get(name).ok().flatten().and_then(|value| Bson::try_from(value).ok());
    let id = doc! { "key": value("key").unwrap_or(Bson::Null), "_id": value("_id").unwrap_or(Bson::Null) };
    Some(Position {
        datetime: text(document, "datetime")?.to_owned(),
        key: text(document, "key").unwrap_or_default().to_owned(),
        id: RawDocumentBuf::try_from(&id).ok()?.into_bytes(),
    })
}

/// Selects, among the documents with the `datetime` of the position, those that are not after it: for `$nor`.
pub(super) fn before_or_at(position: &Position, sort: Sort) -> Vec<Document> {
    let values = RawDocumentBuf::from_bytes(position.id.clone()).ok().and_then(|id| Document::try_from(&id).ok());
    let value = |name| {
        values
            .as_ref()
            .and_then(|values| values.get(name))
            .filter(|value| rank(value).is_some() && has_levels(value, NESTING_LIMIT))
    };
    let text = Bson::from(position.key.as_str());
    let key = value("key").unwrap_or(&text);
    let at = |more: Document| doc! { "datetime": &position.datetime, "$and": [more] };
    let mut excluded = vec![at(doc! { "$or": before("key", key, sort) })];
    excluded.push(match value("_id") {
        Some(id) => {
            let mut at_or_before = before("_id", id, sort);
            at_or_before.push(doc! { "_id": { "$eq": id } });
            at(doc! { "key": { "$eq": key }, "$or": at_or_before })
        }
        // Not a position of this engine.
        None => at(doc! { "key": { "$eq": key } }),
    });
    excluded
}

/// Selects the values of `field` that precede `value` in the order.
fn before(field: &str, value: &Bson, sort: Sort) -> Vec<Document> {
    let rank = rank(value).unwrap_or_default();
    let (operator, types) = match sort {
        Sort::Ascending => ("$lt", TYPES.get(..rank.saturating_sub(1))),
        Sort::Descending => ("$gt", TYPES.get(rank..)),
    };
    let types: Vec<&str> = types.into_iter().flatten().copied().flatten().copied().collect();
    let mut before = vec![doc! { field: { operator: value } }];
    if sort == Sort::Ascending && rank > 0 {
        before.push(doc! { field: Bson::Null });
    }
    if !types.is_empty() {
        before.push(doc! { field: { "$type": types } });
    }
    before
}

/// Whether a value has at most this many levels of documents and arrays.
fn has_levels(value: &Bson, limit: usize) -> bool {
    let all = |mut values: Box<dyn Iterator<Item = &Bson> + '_>| {
        limit.checked_sub(1).is_some_and(|limit| values.all(|value| has_levels(value, limit)))
    };
    match value {
        Bson::Document(document) => all(Box::new(document.values())),
        Bson::JavaScriptCodeWithScope(code) => all(Box::new(code.scope.values())),
        Bson::Array(values) => all(Box::new(values.iter())),
        _ => true,
    }
}

/// The number of types in [`TYPES`] up to that of a value; 0 for null, and `None` for one that cannot be compared.
fn rank(value: &Bson) -> Option<usize> {
    Some(match value {
        Bson::Null => 0,
        Bson::Int32(_) | Bson::Int64(_) | Bson::Double(_) | Bson::Decimal128(_) => 1,
        Bson::String(_) | Bson::Symbol(_) => 2,
        Bson::Document(_) => 3,
        Bson::Binary(_) => 5,
        Bson::ObjectId(_) => 6,
        Bson::Boolean(_) => 7,
        Bson::DateTime(_) => 8,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use mongodb::bson::oid::ObjectId;
    use mongodb::bson::rawdoc;

    use super::*;

    #[test]
    fn a_position_has_values_of_any_type() {
        let id = ObjectId::new();
        let found = position(&rawdoc! { "_id": id, "key": 7, "datetime": "20201209 230000" }).unwrap();
        assert_eq!((found.datetime.as_str(), found.key.as_str()), ("20201209 230000", ""));
        let excluded = before_or_at(&found, Sort::Ascending);
        let key = doc! { "$or": [{ "key": { "$lt": 7 } }, { "key": Bson::Null }] };
        assert_eq!(excluded[0], doc! { "datetime": "20201209 230000", "$and": [key] });
        assert!(excluded[1].to_string().contains(&id.to_hex()));
        assert_eq!(position(&rawdoc! { "_id": id, "datetime": 7 }), None);
    }

    #[test]
    fn values_of_lower_types_precede() {
        let types = |value: Bson, sort| {
            let before = before("f", &value, sort);
            let types = before.iter().find_map(|filter| filter.get_document("f").ok()?.get_array("$type").ok());
            types.map_or(0, Vec::len)
        };
        assert_eq!(types("a".into(), Sort::Ascending), 1);
        assert_eq!(types(ObjectId::new().into(), Sort::Ascending), 6);
        assert_eq!(types(ObjectId::new().into(), Sort::Descending), 8);
        assert_eq!(types(Bson::Null, Sort::Descending), 15);
        assert_eq!(before("f", &Bson::Null, Sort::Ascending).len(), 1);
    }

    #[test]
    fn invented_positions_exclude_by_their_texts() {
        for id in [
            vec![],
            vec![1, 2, 3],
            rawdoc! { "key": mongodb::bson::RawBson::Undefined, "_id": { "$gt": 1 } }.into_bytes(),
        ] {
            let position = Position { datetime: "d".into(), key: "k".into(), id };
            let excluded = before_or_at(&position, Sort::Descending);
            assert!(excluded[1].to_string().contains("\"k\""), "{excluded:?}");
        }
    }

    #[test]
    fn an_invented_position_is_nested_no_deeper_than_a_document() {
        for (levels, is_part) in [(1, true), (NESTING_LIMIT, true), (NESTING_LIMIT + 1, false), (600, false)] {
            let id = (1..levels).fold(rawdoc! { "a": 1 }, |inner, _| rawdoc! { "a": inner });
            let id = rawdoc! { "key": "k", "_id": id }.into_bytes();
            let position = Position { datetime: "d".into(), key: "k".into(), id };
            let excluded = before_or_at(&position, Sort::Ascending);
            assert_eq!(excluded[1].to_string().contains("_id"), is_part, "{levels}");
        }
    }
}
