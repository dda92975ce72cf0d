/**
 * Loaded into a server under test with `--import`: a test run that was killed ends nothing, so its servers end with it.
 */
process.once("disconnect", () => process.kill(process.pid, "SIGTERM"));
process.channel?.unref(); // it must end when it has nothing left to do
