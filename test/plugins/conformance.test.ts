/** Tools and objects of models in the process. */
import { describe } from "vitest";
import { heed } from "../../lib/plugins/ai/index.js";
import { ChatHeed } from "../../lib/plugins/langchain/index.js";
import { conformsByAiSdk, conformsByLangChain, toolModel } from "./conformance.js";

globalThis.AI_SDK_LOG_WARNINGS = false;
const model = toolModel();

describe("heed/ai", () => conformsByAiSdk(() => heed(model)));
describe("heed/langchain", () => conformsByLangChain(() => new ChatHeed({ model, maxTokens: 300 })));
