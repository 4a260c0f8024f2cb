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

/** actorName is who acted, without the id: "key:k1 ci" is "ci". */
export function actorName(actor: string): string {
	return /^\w+:\S+\s+(.+)$/.exec(actor)?.[1] ?? actor;
}

/** shortDifference says a small change in one line; empty if it is not small. */
export function shortDifference(differences: Difference[]): string {
	const [only, ...rest] = differences;
	if (only === undefined || rest.length > 0) return "";
	const { path, before, after } = only;
	if (isLong(before) || isLong(after)) return "";
	return `${path.replace(/^\$\.(flag\.)?/, "")} ${compact(before) || "nothing"} → ${compact(after) || "nothing"}`;
}

function isLong(json: Difference["before"]): boolean {
	return isObject(json) || Array.isArray(json) || compact(json).length > 24;
}
