import { descriptionOf } from "../flag/description.ts";
import type { Flag } from "../gen/guidon/v1/flag_pb.ts";

/** Row is one flag key with its flag in each environment that has it. */
export interface Row {
	key: string;
	/** flag stands for what is the same in every environment. */
	flag: Flag;
	byEnvironment: Map<string, Flag>;
}

/** rowsOf groups flags, sorted by key, into rows. */
export function rowsOf(flags: Flag[]): Row[] {
	const rows: Row[] = [];
	for (const flag of flags) {
		let row = rows.at(-1);
		if (row?.key !== flag.key) {
			row = { key: flag.key, flag, byEnvironment: new Map() };
			rows.push(row);
		}
		row.byEnvironment.set(flag.environment, flag);
	}
	return rows;
}

/**
 * Query is the text of the search box, read. Words must all occur in the key or
 * the description; fields must all hold.
 */
export interface Query {
	words: string[];
	fields: { name: Field; value: string }[];
	/** unknown names fields that do not exist, so that they can be pointed out. */
	unknown: string[];
}

export const fields = ["is", "state", "kind", "project", "tag", "owner", "type", "scope"] as const;
export type Field = (typeof fields)[number];

export function parseQuery(text: string): Query {
	const query: Query = { words: [], fields: [], unknown: [] };
	for (const part of text.trim().toLowerCase().split(/\s+/)) {
		const [, name, value] = /^([a-z]+):(.*)$/.exec(part) ?? [];
		if (name === undefined || value === undefined) {
			if (part !== "") query.words.push(part);
		} else if (isField(name)) {
			if (value !== "") query.fields.push({ name, value });
		} else {
			query.unknown.push(name);
		}
	}
	return query;
}

/**
 * matches reports whether a row is asked for. State is looked at in the chosen
 * environment, or in any if none is chosen. Archived flags are there only if
 * asked for.
 */
export function matches(row: Row, query: Query, environment?: string): boolean {
	const chosen = environment === undefined ? [...row.byEnvironment.values()] : flagIn(row, environment);
	const wantsArchived = query.fields.some((field) => field.name === "is" && field.value === "archived");
	if (row.flag.archived !== wantsArchived || query.unknown.length > 0) return false;
	const text = `${row.key}\n${descriptionOf(row.flag)}`.toLowerCase();
	return (
		query.words.every((word) => text.includes(word)) &&
		query.fields.every(({ name, value }) => holds(row.flag, chosen, name, value))
	);
}

function flagIn(row: Row, environment: string): Flag[] {
	const flag = row.byEnvironment.get(environment);
	return flag === undefined ? [] : [flag];
}

function holds(flag: Flag, chosen: Flag[], name: Field, value: string): boolean {
	switch (name) {
		case "is":
			return value === "archived";
		case "state":
			return chosen.some((each) => (each.state === "ENABLED" ? "on" : "off") === value);
		case "tag":
			return flag.tags.some((tag) => tag.toLowerCase() === value);
		default:
			return flag[name].toLowerCase() === value;
	}
}

function isField(name: string): name is Field {
	return (fields as readonly string[]).includes(name);
}
