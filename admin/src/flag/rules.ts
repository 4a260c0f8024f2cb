import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import { isObject } from "../json.ts";

/**
 * Rules is targeting as a person reads it: rules in order, and what is served
 * where none matches.
 */
export interface Rules {
	rules: Rule[];
	otherwise: Outcome;
}

export interface Rule {
	condition: JsonValue;
	outcome: Outcome;
	/** path of the condition in the flag's definition. */
	path: string;
}

export type Outcome =
	| { kind: "default" }
	| { kind: "variant"; name: string }
	| { kind: "split"; by: string; shares: Share[] }
	| { kind: "computed"; json: JsonValue };

export interface Share {
	variant: string;
	weight: number;
	/** part of the whole, 0 to 1. */
	part: number;
}

/** rulesOf reads a flag's targeting; undefined if it has none. */
export function rulesOf(definition: JsonObject | undefined): Rules | undefined {
	const targeting = definition?.targeting;
	if (!isObject(targeting) || Object.keys(targeting).length === 0) return undefined;
	const rules: Rule[] = [];
	const otherwise = readChain(targeting, "$.targeting", rules);
	return { rules, otherwise };
}

/** readChain appends the rules of an if-chain, and of the ones in its else. */
function readChain(json: JsonValue, path: string, rules: Rule[]): Outcome {
	const [operator, args] = operation(json) ?? [];
	if ((operator !== "if" && operator !== "?:") || args === undefined) return outcomeOf(json);
	let i = 0;
	for (; i + 1 < args.length; i += 2) {
		rules.push({
			condition: args[i] ?? null,
			outcome: outcomeOf(args[i + 1] ?? null),
			path: `${path}.${operator}[${i}]`,
		});
	}
	const last = args[i];
	return last === undefined ? { kind: "default" } : readChain(last, `${path}.${operator}[${i}]`, rules);
}

export function outcomeOf(json: JsonValue): Outcome {
	if (json === null) return { kind: "default" };
	if (typeof json === "string") return { kind: "variant", name: json };
	if (typeof json === "boolean") return { kind: "variant", name: String(json) };
	return splitOf(json) ?? { kind: "computed", json };
}

function splitOf(json: JsonValue): Outcome | undefined {
	const [operator, args] = operation(json) ?? [];
	if (operator !== "fractional" || args === undefined) return undefined;
	const [first, ...rest] = args;
	const explicit = !Array.isArray(first);
	const by = explicit ? bucketingOf(first) : "targeting key";
	if (by === undefined) return undefined;
	const shares: Share[] = [];
	for (const entry of explicit ? rest : args) {
		if (!Array.isArray(entry)) return undefined;
		const [variant, weight = 1] = entry;
		if (typeof variant !== "string" || (weight !== null && typeof weight !== "number")) return undefined;
		shares.push({ variant, weight: Math.max(0, weight ?? 1), part: 0 });
	}
	const sum = shares.reduce((total, share) => total + share.weight, 0);
	if (sum === 0) return undefined;
	for (const share of shares) share.part = share.weight / sum;
	return { kind: "split", by, shares };
}

/** bucketingOf names what a split is drawn by; undefined where it is computed. */
function bucketingOf(json: JsonValue | undefined): string | undefined {
	if (json === null || json === undefined) return "targeting key";
	const attribute = variable(json);
	if (attribute !== undefined) return attributeName(attribute);
	const [operator, args] = operation(json) ?? [];
	if (operator !== "cat" || args === undefined) return undefined;
	const names = args.map((part) => (typeof part === "string" ? `“${part}”` : bucketingOf(part)));
	return names.includes(undefined) ? undefined : names.join(" + ");
}

/** operation splits {"op": args} into its name and its arguments, as a list. */
export function operation(json: JsonValue | undefined): [string, JsonValue[]] | undefined {
	if (!isObject(json)) return undefined;
	const entries = Object.entries(json);
	const [entry] = entries;
	if (entry === undefined || entries.length !== 1) return undefined;
	const [name, args] = entry;
	return [name, Array.isArray(args) ? args : [args]];
}

/** variable is the context path of a plain {"var": path}. */
export function variable(json: JsonValue | undefined): string | undefined {
	const [operator, args] = operation(json) ?? [];
	const path = args?.[0];
	return operator === "var" && args?.length === 1 && typeof path === "string" && path !== ""
		? path
		: undefined;
}

/** attributeName is how a context path is called in words. */
export function attributeName(path: string): string {
	if (path === "targetingKey") return "targeting key";
	if (path === "$flagd.flagKey") return "flag key";
	if (path === "$flagd.timestamp") return "time";
	return path;
}

/** segmentsOf lists the segments that a definition refers to, sorted. */
export function segmentsOf(json: JsonValue | undefined): string[] {
	const names = new Set<string>();
	const visit = (value: JsonValue | undefined) => {
		if (Array.isArray(value)) value.forEach(visit);
		else if (isObject(value)) {
			if (typeof value.$ref === "string") names.add(value.$ref);
			Object.values(value).forEach(visit);
		}
	};
	visit(json);
	return [...names].sort();
}
