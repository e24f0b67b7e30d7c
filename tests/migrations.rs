//! A committed migration is never edited: databases that have run it would keep what the old text did. A mistake is
//! corrected by another migration.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, fs, path::Path};

use sha2::{Digest, Sha256};

/// Every file of every migration, with the SHA-256 of its text. A new migration gets its lines here when it is
/// committed.
/// ¶ Two were edited on the day of their first commit: `sqlite/2026-11-22-000004_rooms`, whose first text stored the
/// read state of trades in other columns, and `postgres/2026-11-22-000003_bidders`, which locks the bids since. The
/// later texts stand. All databases but those of that day were made by them; no program since fits the first text of
/// rooms, and the lock leaves nothing in the schema.
const COMMITTED: &str = "
70e976ff420f5c9da0f119eaf764641b9e99fde5bd445fab297455f0ab8b03a5 postgres/2026-11-22-000001_all/down.sql
08ac4b15f3aa2f44df607ff5f92e01938d063a7c1d646003eb58ccb56fb9c8b9 postgres/2026-11-22-000001_all/up.sql
2a4465c1e7a4722d450aa858ba2289c4c393ef15edcdfde29bd6af287cc5ce6a postgres/2026-11-22-000002_service_id/down.sql
fa4c43d405c18a8a767940347820998985f17c7d3d8a89ad5385ab03f5a96cd4 postgres/2026-11-22-000002_service_id/up.sql
fae3783c3830869515c813a1c59499251263dba93952c9c934202b516df52ac4 postgres/2026-11-22-000003_bidders/down.sql
fb559bd162a5c19c6dc8ec1984573463924fb49b89db79a40ef1ae257131dd36 postgres/2026-11-22-000003_bidders/up.sql
63d9f648a4610f3b5841264a26416939e63f012b88f7f8bc114b728922e45427 postgres/2026-11-23-000004_likes_removed/down.sql
eacb63854f569d556c1d57507bb40edca08cef5b2f66eff8f2f7b2f314aebfc5 postgres/2026-11-23-000004_likes_removed/up.sql
ec9699a0111f0b1556dc75692381a8c9cdcbdc2dffab815ddbf5aa95af81d321 postgres/2026-11-26-000005_stops/down.sql
0114a2d38dfe167d828edf0c6f6f5e98da0006e3e07ec866799a518be9a7c6e4 postgres/2026-11-26-000005_stops/up.sql
983a0262c1543a716d9590a8c4490ed150168759cdb32e441372edafeb0eddfd postgres/2026-11-26-000006_audit/down.sql
0d5673e91f788599c5c913d7d679558a40f42a28670622a8e155340a73890668 postgres/2026-11-26-000006_audit/up.sql
ef1d66f8985ac1bace787c9562ecfb8339c274eca7cbdf587184bf1ce5a4a811 postgres/2026-11-26-000007_notices/down.sql
1fa4bcc79d0c0a97a92373c0f9c3d77e7d0dd0675a98f4231c35b344f7784bbe postgres/2026-11-26-000007_notices/up.sql
41d49712150602dc3e1e6fc4ffa783153bebbfe02d29adbee66fcb070736fa57 postgres/2026-11-26-000008_locale/down.sql
e7968ed2ad36ac288edf0cccb55d8dd28bf4b553d91c687a08c8c59da207cb7b postgres/2026-11-26-000008_locale/up.sql
3f79807784618119437c94d4c5852502a90e80f5fee0303eb22ef003d1420584 postgres/2026-11-26-000009_moderation/down.sql
036b54e5d1c8cec278e08cb3fe84c2e6990c1e7c645570106d052369d0aee76c postgres/2026-11-26-000009_moderation/up.sql
263a0fb81ef2f425338e700445cea6be51bedc555af66ffffdcca17d3b955cf9 postgres/2026-11-26-000010_external_goods/down.sql
1d9650cc5982d2be73a351e24af6e8f67fea511f3e7a732ea595a72cd53a6252 postgres/2026-11-26-000010_external_goods/up.sql
556f2dd0c4a2f9bbe7f1075f900e56f348619b7a5d84001b01fc6f4840967436 sqlite/2026-11-22-000001_auctions/down.sql
dc5d3e5d174ff7dc75ba2ffd2446365e736f287ad8b7a72abbf51b18cc8b018e sqlite/2026-11-22-000001_auctions/up.sql
a13c0f998f98af1a128dc4c65eba675ffa1b80d5c52ce817d47e80f9b6632742 sqlite/2026-11-22-000002_inbox/down.sql
ee5ee0ffccd56dc4448a447febe64bbde415aba484250767de6c1dd0c65cff2d sqlite/2026-11-22-000002_inbox/up.sql
29333762f5828e9dfec889d0723f57357e49f31d5fe2bf8be662d5494717f0ec sqlite/2026-11-22-000003_probe/down.sql
40d48ff2839ab47ce0ce5355b4cb1090e821a09ddc5ba09c4a4699528d9bf7b2 sqlite/2026-11-22-000003_probe/up.sql
c377d3897404fb8be8d22fefe4e63a57b7093ac17532b1aa35a8f38626f0e2ba sqlite/2026-11-22-000004_rooms/down.sql
c2f5cdad518c78c2da65be8ea72126542362bc3918bca323b81aaa5a2e6542ae sqlite/2026-11-22-000004_rooms/up.sql
2af413de625b55772aff4a08bf512d7deeba9ae62b4c5a0fd280b1a6b71b6887 sqlite/2026-11-22-000005_lists/down.sql
e9e71383d7e92d1729cbfc01433a4725e1fe3e6624bb0b24fb8a42d325291b93 sqlite/2026-11-22-000005_lists/up.sql
c8b2764af85b515e57efdbd609ae8e39d0c61404e98f200068236a09939bbbc1 sqlite/2026-11-22-000006_writers/down.sql
5230e6f1545aba4242e48c16973089604d65e4321b4dd6146db99627b2ff58a5 sqlite/2026-11-22-000006_writers/up.sql
fae3783c3830869515c813a1c59499251263dba93952c9c934202b516df52ac4 sqlite/2026-11-22-000007_bidders/down.sql
635f65a0aa4622eddfb1af0467814644b6263d14802967b53117d66656061b2f sqlite/2026-11-22-000007_bidders/up.sql
63d9f648a4610f3b5841264a26416939e63f012b88f7f8bc114b728922e45427 sqlite/2026-11-23-000008_likes_removed/down.sql
eacb63854f569d556c1d57507bb40edca08cef5b2f66eff8f2f7b2f314aebfc5 sqlite/2026-11-23-000008_likes_removed/up.sql
ec9699a0111f0b1556dc75692381a8c9cdcbdc2dffab815ddbf5aa95af81d321 sqlite/2026-11-26-000009_stops/down.sql
9a07d918a5b92ae9527132f061654837882db3a51fe597d486ca368b73ed5ef9 sqlite/2026-11-26-000009_stops/up.sql
983a0262c1543a716d9590a8c4490ed150168759cdb32e441372edafeb0eddfd sqlite/2026-11-26-000010_audit/down.sql
efcf92d3ad1ea6f53d1b907411fd34fc5457a56ec254abdc7b0ef3bd39be4b6a sqlite/2026-11-26-000010_audit/up.sql
ef1d66f8985ac1bace787c9562ecfb8339c274eca7cbdf587184bf1ce5a4a811 sqlite/2026-11-26-000011_notices/down.sql
f0b9dfb83861d1caf3fb00523bfab314e6b1fd25a133efab1eccd75e803bc5b4 sqlite/2026-11-26-000011_notices/up.sql
41d49712150602dc3e1e6fc4ffa783153bebbfe02d29adbee66fcb070736fa57 sqlite/2026-11-26-000012_locale/down.sql
e7968ed2ad36ac288edf0cccb55d8dd28bf4b553d91c687a08c8c59da207cb7b sqlite/2026-11-26-000012_locale/up.sql
3f79807784618119437c94d4c5852502a90e80f5fee0303eb22ef003d1420584 sqlite/2026-11-26-000013_moderation/down.sql
cc407c1f71f5999e9b056126e0de563eeaf92164eb7ae8bd06b241a7a5a56449 sqlite/2026-11-26-000013_moderation/up.sql
263a0fb81ef2f425338e700445cea6be51bedc555af66ffffdcca17d3b955cf9 sqlite/2026-11-26-000014_external_goods/down.sql
1d9650cc5982d2be73a351e24af6e8f67fea511f3e7a732ea595a72cd53a6252 sqlite/2026-11-26-000014_external_goods/up.sql
";

fn files(folder: &Path, into: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, into);
        } else {
            let hash: String =
                Sha256::digest(fs::read(&path).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect();
            let name = path.strip_prefix(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations")).unwrap();
            into.insert(name.to_str().unwrap().to_owned(), hash);
        }
    }
}

#[test]
fn a_committed_migration_is_never_edited() {
    let committed: BTreeMap<String, String> = COMMITTED
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(hash, name)| (name.trim().to_owned(), hash.to_owned()))
        .collect();
    let mut found = BTreeMap::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations"), &mut found);
    assert!(committed.len() >= 24, "{committed:?}");
    for (name, hash) in &committed {
        assert_eq!(found.get(name), Some(hash), "{name} was edited: undo that, and write a new migration");
    }
    for (name, hash) in &found {
        assert!(committed.contains_key(name), "{name} is new: add `{hash} {name}` above");
    }
}
