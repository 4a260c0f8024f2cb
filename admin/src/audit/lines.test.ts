import { expect, it } from "vitest";
import { compareLines } from "./lines.ts";

const marked = (before: string, after: string) =>
	compareLines(before, after).map((lines) =>
		lines.map(({ text, own }) => (own ? `*${text}` : text)).join(" "),
	);

it("marks what each text has of its own", () => {
	expect(marked("a\nb\nc", "a\nx\nc\nd")).toEqual(["a *b c", "a *x c *d"]);
	expect(marked("a", "b")).toEqual(["*a", "*b"]);
	expect(marked("a\nb", "a\nb")).toEqual(["a b", "a b"]);
});

it("finds the longest that is common, not the first", () => {
	expect(marked("a\nb\nc\na", "b\nc\na\na")).toEqual(["*a b c a", "b c a *a"]);
});

it("does not compare what is too long for that", () => {
	const long = Array.from({ length: 600 }, (_, i) => i).join("\n");
	const [before, after] = compareLines(long, long);
	expect([...before, ...after].every(({ own }) => own)).toBe(true);
});
