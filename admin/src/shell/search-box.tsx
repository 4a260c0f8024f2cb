import { TextInput, type TextInputProps } from "@mantine/core";
import { useHotkeys } from "@mantine/hooks";
import { useEffect, useRef, useState } from "react";
import { Icon } from "../theme/icon.tsx";

interface Properties extends Omit<TextInputProps, "value" | "onChange"> {
	/** value comes from the address, and goes there through onChange. */
	value: string;
	onChange: (value: string) => void;
	/** main makes this the box that the key / goes to. */
	main?: boolean;
}

/** SearchBox is a box whose text the address holds. Escape leaves it. */
export function SearchBox({ value, onChange, main = false, ...rest }: Properties) {
	const input = useRef<HTMLInputElement>(null);
	const written = useRef(value);
	const [text, setText] = useState(value);
	useHotkeys(main ? [["/", () => input.current?.select()]] : []);
	// The address lags behind typing; only a change made elsewhere comes back.
	useEffect(() => {
		if (value === written.current) return;
		written.current = value;
		setText(value);
	}, [value]);

	function write(next: string) {
		written.current = next;
		setText(next);
		onChange(next);
	}

	return (
		<TextInput
			ref={input}
			type="search"
			value={text}
			onChange={(event) => write(event.currentTarget.value)}
			onKeyDown={(event) => {
				if (event.key !== "Escape") return;
				event.preventDefault(); // the browser would clear the box
				input.current?.blur();
			}}
			leftSection={<Icon name="search" />}
			autoComplete="off"
			spellCheck={false}
			aria-keyshortcuts={main ? "/" : undefined}
			{...rest}
		/>
	);
}
