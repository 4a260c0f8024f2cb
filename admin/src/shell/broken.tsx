import { Button } from "@mantine/core";
import { type ErrorComponentProps, Link } from "@tanstack/react-router";
import { faultOf } from "../session/fault.ts";
import { FaultNote } from "../session/fault-note.tsx";
import css from "./shell.module.css";

/** NotFound is for addresses that lead nowhere. */
export function NotFound() {
	return (
		<main className={css.broken}>
			<h1>There is no such page</h1>
			<Link to="/flags">Go to the flags</Link>
		</main>
	);
}

/** Broken is for faults that no page expected. */
export function Broken({ error, reset }: ErrorComponentProps) {
	return (
		<main className={css.broken}>
			<h1>This page broke</h1>
			<FaultNote fault={faultOf(error)} />
			<Button onClick={reset}>Draw it again</Button>
		</main>
	);
}
