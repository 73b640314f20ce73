/** What a person can do with runs. The panel asks for it by these names, and knows no command. */

import type { Run } from "./api";

export interface Actions {
  wizard(): void;
  watch(run: Run): void;
  logs(run: Run): void;
  results(run: Run): void;
  stop(run: Run): void;
  clean(): void;
}
