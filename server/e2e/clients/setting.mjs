// What a program of this folder learns from its environment: see TestClients.
export const { HEDGEROW, TOKEN, OPENAI, ANTHROPIC } = process.env;
export const USER = "ada", SESSION = "session-ada", KEY = "sk-caller-0000000000000000";
export const WORDS = "Which bird nests in the hedge?";
