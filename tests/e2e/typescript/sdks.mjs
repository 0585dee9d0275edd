// The official TypeScript clients, both generations, behind the few names in which they differ.

const v1 = async () => {
  const { Client } = await import("@modelcontextprotocol/sdk/client/index.js");
  const { StreamableHTTPClientTransport } = await import("@modelcontextprotocol/sdk/client/streamableHttp.js");
  const { SSEClientTransport } = await import("@modelcontextprotocol/sdk/client/sse.js");
  const types = await import("@modelcontextprotocol/sdk/types.js");
  const schemas = {
    "elicitation/create": types.ElicitRequestSchema,
    "sampling/createMessage": types.CreateMessageRequestSchema,
    "roots/list": types.ListRootsRequestSchema,
  };
  return {
    Client,
    Transport: StreamableHTTPClientTransport,
    OldTransport: SSEClientTransport,
    answer: (client, method, handler) => client.setRequestHandler(schemas[method], handler),
    callTool: (client, params, options) => client.callTool(params, undefined, options),
  };
};

const v2 = async () => {
  const sdk = await import("@modelcontextprotocol/client");
  return {
    Client: sdk.Client,
    Transport: sdk.StreamableHTTPClientTransport,
    OldTransport: sdk.SSEClientTransport,
    answer: (client, method, handler) => client.setRequestHandler(method, handler),
    callTool: (client, params, options) => client.callTool(params, options),
  };
};

export const sdks = { v1, v2 };
