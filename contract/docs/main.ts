/** `npm run docs:compatibility`: writes docs/compatibility.md. */
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { compatibilityText } from "./compatibility.ts";

writeFileSync(fileURLToPath(new URL("../../docs/compatibility.md", import.meta.url)), compatibilityText());
