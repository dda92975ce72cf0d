/** Text of unknown origin, safe for a terminal and a log: control characters other than line ends become `?`. */
export function printable(text: string): string {
  return text.replace(/(?!\n)\p{Cc}/gu, "?");
}
