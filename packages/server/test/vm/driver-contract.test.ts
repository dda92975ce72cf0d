import { describeDriver } from "../../src/host/driver/testing/contract.ts";
import { openQemuContender } from "./qemu-contender.ts";

describeDriver("QEMU", openQemuContender);
