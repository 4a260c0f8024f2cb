/** Line is one line of a text; own says that the other text does not have it. */
export interface Line {
	text: string;
	own: boolean;
}

/** maxCells bounds the work of a comparison; beyond it every line counts as own. */
const maxCells = 250_000;

/**
 * compareLines marks what two texts have of their own, by their longest common
 * subsequence of lines.
 */
export function compareLines(before: string, after: string): [Line[], Line[]] {
	const left = before.split("\n");
	const right = after.split("\n");
	const own = (text: string): Line => ({ text, own: true });
	const result: [Line[], Line[]] = [left.map(own), right.map(own)];
	if (left.length * right.length > maxCells) return result;

	// common[i][j] counts the common lines of left from i on and right from j on.
	const common = left.map(() => new Uint32Array(right.length + 1));
	common.push(new Uint32Array(right.length + 1));
	const at = (i: number, j: number) => common[i]?.[j] ?? 0;
	for (let i = left.length - 1; i >= 0; i--) {
		const row = common[i];
		if (row === undefined) continue;
		for (let j = right.length - 1; j >= 0; j--) {
			row[j] = left[i] === right[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1));
		}
	}
	for (let i = 0, j = 0; i < left.length && j < right.length; ) {
		const [a, b] = [result[0][i], result[1][j]];
		if (a && b && a.text === b.text) {
			a.own = false;
			b.own = false;
			i++;
			j++;
		} else if (at(i + 1, j) >= at(i, j + 1)) i++;
		else j++;
	}
	return result;
}
