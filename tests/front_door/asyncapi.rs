//! `GET /asyncapi.json`: who gets it, and that its examples fit its schemas. `protocol_doc` holds it against the frames that
//! the service sends and takes, `src/http/asyncapi.rs` against the types of the protocol.

use crate::{
    openapi::check_public,
    support::{Described, TestNode},
};

#[actix_web::test]
async fn anybody_gets_the_document_also_without_a_database_and_caches_keep_it() {
    check_public("/asyncapi.json", "application/json").await;
}

#[actix_web::test]
async fn every_example_fits_its_schema_and_every_reference_leads_somewhere() {
    let node = TestNode::start();
    let described = Described::new(node.visitor().get("/asyncapi.json").await.body);
    assert_eq!(described.document()["asyncapi"], "3.0.0");
    let messages = described.document()["components"]["messages"].as_object().unwrap();
    assert!(messages.len() > 20, "{} messages", messages.len());
    for (name, message) in messages {
        for example in message["examples"].as_array().unwrap() {
            assert_eq!(
                described.difference(&format!("/components/messages/{name}/payload"), &example["payload"]),
                None
            );
        }
    }
    for reference in described.references() {
        let pointer = reference.strip_prefix('#').expect("a reference within the document");
        assert!(described.document().pointer(pointer).is_some(), "{reference}");
    }
}
