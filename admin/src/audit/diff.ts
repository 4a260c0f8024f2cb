import type { JsonValue } from "@bufbuild/protobuf";
import { isObject } from "../json.ts";

/** Difference is one field that changed; a side is undefined where it was absent. */
export interface Difference {
	path: string;
	before: JsonValue | undefined;
	after: JsonValue | undefined;
}

/**
 * differences lists the fields in which two JSON values differ, by JSON path.
 * Lists are compared whole: a rule moved by one place is one change and not ten.
 */
export function differences(
	before: JsonValue | undefined,
	after: JsonValue | undefined,
	path = "$",
): Difference[] {
	if (isObject(before) && isObject(after)) {
		const names = [...new Set([...Object.keys(before), ...Object.keys(after)])].sort();
		return names.flatMap((name) => differences(before[name], after[name], `${path}${step(name)}`));
	}
	return equal(before, after) ? [] : [{ path, before, after }];
}

function step(name: string): string {
	return /^[A-Za-z_$][\w$-]*$/.test(name) ? `.${name}` : `[${JSON.stringify(name)}]`;
}

function equal(a: JsonValue | undefined, b: JsonValue | undefined): boolean {
	if (Array.isArray(a) && Array.isArray(b))
		return a.length === b.length && a.every((item, i) => equal(item, b[i]));
	if (isObject(a) && isObject(b)) return differences(a, b).length === 0;
	return a === b;
}
