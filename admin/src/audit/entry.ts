import { toJson } from "@bufbuild/protobuf";
import { ValueSchema } from "@bufbuild/protobuf/wkt";
import type { AuditChange, AuditEntry } from "../gen/guidon/v1/audit_pb.ts";
import { compact, isObject } from "../json.ts";
import type { Difference } from "./diff.ts";

/** installation is how the chain that belongs to no environment is called. */
export const installation = "installation";

/** entryId names an entry in an address: its chain and its place in it. */
export function entryId({ environment, sequence }: Pick<AuditEntry, "environment" | "sequence">): string {
	return `${environment || installation}:${sequence}`;
}

/** differencesOf reads the changed fields of one flag, segment, settings or key. */
export function differencesOf({ fields }: Pick<AuditChange, "fields">): Difference[] {
	return fields.map(({ path, before, after }) => ({
		path,
		before: before && toJson(ValueSchema, before),
		after: after && toJson(ValueSchema, after),
	}));
}

/** isOfFlag tells whether a change is about a flag: a kill is one of its own kind. */
export function isOfFlag(kind: string): boolean {
	return kind === "flag" || kind === "emergency";
}

/** kindName is what people call a kind of thing: "emergency" is the flag that was killed. */
export function kindName(kind: string): string {
	return isOfFlag(kind) ? "flag" : kind.replaceAll("_", " ");
}

/** actorName is who acted, without the id: "key:k1 ci" is "ci". */
export function actorName(actor: string): string {
	return /^\w+:\S+\s+(.+)$/.exec(actor)?.[1] ?? actor;
}

/** maxNamed is how many changed fields are named in one line. */
const maxNamed = 3;

/**
 * shortDifference says what changed in one line: a small change whole, a larger
 * one by the names of its fields. It is empty for what was created whole.
 */
export function shortDifference(differences: Difference[]): string {
	const [first, ...rest] = differences;
	if (first === undefined) return "";
	const { path, before, after } = first;
	if (rest.length > 0 || isLong(before) || isLong(after)) {
		const names = differences.slice(0, maxNamed).map((each) => fieldName(each.path));
		const more = differences.length - names.length;
		return names.join(", ") + (more > 0 ? ` and ${more} more` : "");
	}
	return `${fieldName(path)} ${compact(before) || "nothing"} → ${compact(after) || "nothing"}`;
}

/** createdName is the name people gave to what was created, if it has one. */
export function createdName(differences: Difference[]): string {
	const after = differences[0]?.after;
	return isObject(after) && typeof after.name === "string" ? after.name : "";
}

function fieldName(path: string): string {
	return path.replace(/^\$\.?(flag\.)?/, "");
}

function isLong(json: Difference["before"]): boolean {
	return isObject(json) || Array.isArray(json) || compact(json).length > 24;
}
