// A Realtime session with OpenAI's client, and Responses over a WebSocket.
// Usage: node sockets.mjs BASE_URL. Prints what was received, as JSON.
import OpenAI from 'openai'
import { OpenAIRealtimeWebSocket } from 'openai/realtime/websocket'
import { WebSocket } from 'undici'

const base = process.argv[2]
globalThis.WebSocket = WebSocket // Node 20 has none

const client = new OpenAI({ apiKey: 'sk-e2e-caller', baseURL: base + '/openai/v1' })
const rt = new OpenAIRealtimeWebSocket({ model: 'gpt-realtime', dangerouslyAllowBrowser: true, onURL: (url) => { url.protocol = 'ws:' } }, client)
const done = await new Promise((resolve, reject) => {
  rt.on('error', reject)
  rt.on('session.created', () => {
    rt.send({ type: 'conversation.item.create', item: { type: 'message', role: 'user', content: [{ type: 'input_text', text: 'How wide is a hedge?' }] } })
    rt.send({ type: 'response.create' })
  })
  rt.on('response.done', resolve)
})
const closed = new Promise((resolve) => rt.socket.addEventListener('close', (e) => resolve(e.code)))
rt.close()

// undici offers permessage-deflate, as Codex does.
const ws = new WebSocket(base.replace('http', 'ws') + '/openai/v1/responses', { headers: { authorization: 'Bearer sk-e2e-caller', 'x-posthog-distinct-id': 'alice' } })
await new Promise((resolve, reject) => { ws.onopen = resolve; ws.onerror = reject })
const turn = (body) => new Promise((resolve) => {
  ws.onmessage = (e) => {
    const event = JSON.parse(e.data)
    if (event.type === 'response.completed') resolve(event.response)
  }
  ws.send(JSON.stringify({ type: 'response.create', model: 'gpt-4.1-mini', ...body }))
})
const first = await turn({ input: 'How tall is a hedge?' })
const second = await turn({ input: 'How old?', previous_response_id: first.id })
const code = new Promise((resolve) => { ws.onclose = (e) => resolve(e.code) })
ws.close(1000)
console.log(JSON.stringify({ realtime: done.response.id, realtimeClosed: await closed, responses: [first.id, second.id], output: second.usage.output_tokens, extensions: ws.extensions, closed: await code }))
