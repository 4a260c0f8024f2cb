import type { JsonValue } from "@bufbuild/protobuf";
import { attributeName, operation, variable } from "./rules.ts";

/**
 * Word is a piece of a condition in plain language. Whoever shows it can tell
 * attributes, values and segments from the words between them.
 */
export type Word = { text: string; role: "plain" | "attribute" | "value" | "segment" };

const comparisons: Record<string, string> = {
	"==": "is",
	"===": "is exactly",
	"!=": "is not",
	"!==": "is not exactly",
	"<": "is below",
	"<=": "is at most",
	">": "is above",
	">=": "is at least",
	starts_with: "starts with",
	ends_with: "ends with",
};

const mirrored: Record<string, string> = { "<": ">", "<=": ">=", ">": "<", ">=": "<=" };

const times: Record<string, string> = {
	"<": "it is before",
	"<=": "it is not after",
	">": "it is after",
	">=": "it is not before",
};

const versions: Record<string, string> = {
	"=": "is version",
	"!=": "is not version",
	"<": "is below version",
	"<=": "is at most version",
	">": "is above version",
	">=": "is at least version",
	"^": "is of the same major version as",
	"~": "is of the same minor version as",
};

/**
 * wordsOf says a JsonLogic condition in plain language; undefined where it
 * cannot say it exactly, so that the caller shows the JSON instead.
 */
export function wordsOf(condition: JsonValue): Word[] | undefined {
	if (condition === true) return [plain("always")];
	if (condition === false) return [plain("never")];
	const [operator, args] = operation(condition) ?? [];
	if (operator === undefined || args === undefined) return undefined;
	if (operator === "and" || operator === "or") return joined(operator, args);
	if (operator === "$ref" && typeof args[0] === "string") return [plain("in segment "), segment(args[0])];
	if (operator === "!" && args.length === 1) return negated(args[0] ?? null);
	if (operator === "!!" && args.length === 1) return set(args[0], "is set");
	if (operator === "var") return set(condition, "is set");
	if (operator === "in") return membership(args);
	if (operator === "sem_ver") return version(args);
	return comparison(operator, args);
}

function joined(operator: "and" | "or", args: JsonValue[]): Word[] | undefined {
	const words: Word[] = [];
	for (const [i, arg] of args.entries()) {
		const part = wordsOf(arg);
		if (part === undefined) return undefined;
		if (i > 0) words.push(plain(` ${operator} `));
		const inner = operation(arg);
		const nested = inner !== undefined && ["and", "or"].includes(inner[0]) && inner[1].length > 1;
		words.push(...(nested && args.length > 1 ? [plain("("), ...part, plain(")")] : part));
	}
	return words.length > 0 ? words : undefined;
}

function negated(arg: JsonValue): Word[] | undefined {
	const [operator, args] = operation(arg) ?? [];
	if (operator === "var") return set(arg, "is not set");
	if (operator === "$ref" && typeof args?.[0] === "string")
		return [plain("not in segment "), segment(args[0])];
	if (operator === "in" && args !== undefined) return membership(args, true);
	const words = wordsOf(arg);
	return words && [plain("not ("), ...words, plain(")")];
}

function set(json: JsonValue | undefined, words: string): Word[] | undefined {
	const path = variable(json);
	return path === undefined ? undefined : [attribute(path), plain(` ${words}`)];
}

function membership([member, whole]: JsonValue[], not = false): Word[] | undefined {
	const path = variable(member);
	if (path !== undefined && Array.isArray(whole)) {
		const list = whole.map(literal);
		if (list.includes(undefined)) return undefined;
		const words: Word[] = [attribute(path), plain(not ? " is none of " : " is one of ")];
		for (const [i, text] of list.entries()) {
			if (i > 0) words.push(plain(", "));
			words.push(value(text ?? ""));
		}
		return words;
	}
	const holder = variable(whole);
	const text = literal(member);
	if (holder === undefined || text === undefined) return undefined;
	return [attribute(holder), plain(not ? " does not contain " : " contains "), value(text)];
}

function version([subject, operator, target]: JsonValue[]): Word[] | undefined {
	const path = variable(subject);
	const words = versions[String(operator)];
	const text = typeof target === "string" ? target : undefined;
	return path && words && text ? [attribute(path), plain(` ${words} `), value(text)] : undefined;
}

function comparison(operator: string, args: JsonValue[]): Word[] | undefined {
	const words = comparisons[operator];
	if (words === undefined) return undefined;
	if (args.length === 3) return between(operator, args);
	if (args.length !== 2) return undefined;
	const [left, right] = args;
	const path = variable(left);
	if (path === undefined) {
		// "5 < age" reads as "age is above 5"; equality is the same both ways.
		const other = mirrored[operator] ?? (/^[=!]/.test(operator) ? operator : undefined);
		return variable(right) === undefined || other === undefined
			? undefined
			: comparison(other, [right ?? null, left ?? null]);
	}
	if (path === "$flagd.timestamp") return moment(operator, right);
	const text = literal(right);
	return text === undefined ? undefined : [attribute(path), plain(` ${words} `), value(text)];
}

function between(operator: string, [low, subject, high]: JsonValue[]): Word[] | undefined {
	const path = variable(subject);
	const from = literal(low);
	const to = literal(high);
	if (path === undefined || from === undefined || to === undefined) return undefined;
	if (operator === "<=") return [attribute(path), plain(" is from "), value(from), plain(" to "), value(to)];
	if (operator === "<") {
		return [attribute(path), plain(" is above "), value(from), plain(" and below "), value(to)];
	}
	return undefined;
}

function moment(operator: string, right: JsonValue | undefined): Word[] | undefined {
	const words = times[operator];
	if (words === undefined || typeof right !== "number" || Math.abs(right) > 8.64e12) return undefined;
	const time = new Date(right * 1000)
		.toISOString()
		.replace(/:00\.000Z$|\.000Z$/, "")
		.replace("T", " ");
	return [plain(`${words} `), value(`${time} UTC`)];
}

function literal(json: JsonValue | undefined): string | undefined {
	if (typeof json === "string") return `“${json}”`;
	if (typeof json === "number" || typeof json === "boolean") return String(json);
	return json === null ? "null" : undefined;
}

const plain = (text: string): Word => ({ text, role: "plain" });
const value = (text: string): Word => ({ text, role: "value" });
const segment = (text: string): Word => ({ text, role: "segment" });
const attribute = (path: string): Word => ({ text: attributeName(path), role: "attribute" });
