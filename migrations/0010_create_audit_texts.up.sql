SET lock_timeout = '5s';

-- What entries of the audit log hold only as hashes, so that it can be erased:
-- the names of people, one row each, and reasons and origins, one row for each
-- entry that has one. An entry whose text is not here verifies as before.
-- Retained: reasons and origins as long as their entries; names until somebody erases them.
CREATE TABLE audit_texts (
    hash   bytea   PRIMARY KEY CHECK (octet_length(hash) = 32), -- of salt and text: see package audit
    salt   bytea   NOT NULL CHECK (octet_length(salt) = 16),
    person boolean NOT NULL,
    text   text    NOT NULL,
    origin_of bytea -- of an origin: the hash of the person, or empty
);

-- md5 makes it short; it guards nothing.
CREATE UNIQUE INDEX audit_texts_of_person ON audit_texts (md5(text)) WHERE person;
