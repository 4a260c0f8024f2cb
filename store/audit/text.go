package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
)

// Erased stands where a text was that somebody had erased.
const Erased = "erased"

// Text is a text about a person: a name, or a reason, which is free text. The
// payload of an entry holds only its hash, so that the text can be erased and
// the entry still verifies. Without the salt the hash says nothing of it.
type Text struct {
	Salt [16]byte
	Text string
}

// Hash is SHA-256 over "guidon.audit.text.v1", the salt and the text, each
// preceded by its length in bytes (4 bytes, big-endian).
func (t Text) Hash() Hash {
	var b []byte
	for _, part := range []string{"guidon.audit.text.v1", string(t.Salt[:]), t.Text} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(part)))
		b = append(b, part...)
	}
	return sha256.Sum256(b)
}

// SplitActor takes an actor apart into what names no person, "key:<id>" or what
// the program calls itself, and the name of the person; either may be empty.
func SplitActor(actor string) (principal, person string) {
	if actor == "guidon" || strings.HasPrefix(actor, "database: ") {
		return actor, ""
	}
	if strings.HasPrefix(actor, "key:") {
		principal, actor, _ = strings.Cut(actor, " ")
	}
	if actor == Erased {
		return strings.TrimSpace(principal + " " + Erased), ""
	}
	return principal, actor
}

// named is the member of a document that names a person, or a team, in a record
// of the installation's chain: it stands there as its hash, under the same name
// and "_hash". Empty for none.
func named(kind string) string {
	switch kind {
	case "key":
		return "name"
	case "flag":
		return "owner"
	}
	return ""
}

// TextHashes are the hashes of the texts that a record has.
func (r Record) TextHashes() []string {
	hashes := []string{r.PersonHash, r.ReasonHash, r.OriginHash}
	for _, o := range r.Operations {
		member := named(o.Kind)
		if member == "" || r.Environment != Installation {
			continue
		}
		for _, document := range []json.RawMessage{o.Before, o.After} {
			if hash, _ := hashIn(document, member); hash != "" {
				hashes = append(hashes, hash)
			}
		}
	}
	slices.Sort(hashes)
	return slices.DeleteFunc(slices.Compact(hashes), func(hash string) bool { return hash == "" })
}

// hashIn is the hash that a document has for a member, and all its members; empty
// if it has none.
func hashIn(document []byte, member string) (string, map[string]json.RawMessage) {
	if !bytes.Contains(document, []byte(`"`+member+`_hash"`)) {
		return "", nil
	}
	var members map[string]json.RawMessage
	var hash string
	if json.Unmarshal(document, &members) != nil || json.Unmarshal(members[member+"_hash"], &hash) != nil {
		return "", nil
	}
	return hash, members
}

// opened is the record with the texts in the places of their hashes, and Erased
// where there is none.
func (r Record) opened(texts []Text) (Record, error) {
	text := textOf(texts)
	r.Actor, r.Reason = r.Said(texts)
	r.PersonHash, r.ReasonHash = "", ""
	if r.OriginHash != "" {
		r.Origin, r.OriginHash = text(r.OriginHash), ""
	}
	for i := range r.Operations {
		member := named(r.Operations[i].Kind)
		if member == "" || r.Environment != Installation {
			continue
		}
		for _, document := range []*json.RawMessage{&r.Operations[i].Before, &r.Operations[i].After} {
			if err := openName(document, member, text); err != nil {
				return r, err
			}
		}
	}
	return r, nil
}

// textOf finds texts by their hashes.
func textOf(texts []Text) func(hash string) string {
	known := make(map[string]string, len(texts))
	for _, t := range texts {
		known[t.Hash().String()] = t.Text
	}
	return func(hash string) string {
		if text, ok := known[hash]; ok {
			return text
		}
		return Erased
	}
}

// Said is who did it and why, of a record as it is stored, with the texts of its
// entry in their places and Erased where there is none.
func (r Record) Said(texts []Text) (actor, reason string) {
	text := textOf(texts)
	actor, reason = r.Actor, r.Reason
	if r.PersonHash != "" {
		actor = strings.TrimSpace(actor + " " + text(r.PersonHash))
	}
	if r.ReasonHash != "" {
		reason = text(r.ReasonHash)
	}
	return actor, reason
}

func openName(document *json.RawMessage, member string, text func(hash string) string) error {
	hash, members := hashIn(*document, member)
	if hash == "" {
		return nil
	}
	name, err := json.Marshal(text(hash))
	if err != nil {
		return err
	}
	delete(members, member+"_hash")
	members[member] = name
	*document, err = json.Marshal(members)
	return err
}

// foreignText returns why the texts of an entry are not those that its payload
// names, in the order of their hashes; empty if they are. One that is missing
// was erased.
func (e Entry) foreignText() string {
	var last Hash
	for i, t := range e.Texts {
		hash := t.Hash()
		if i > 0 && bytes.Compare(last[:], hash[:]) >= 0 {
			return "its texts are not in order"
		}
		if last = hash; !bytes.Contains(e.Payload, []byte(`_hash":"`+hex.EncodeToString(hash[:])+`"`)) {
			return "a text is not the one that it was made with"
		}
	}
	return ""
}
