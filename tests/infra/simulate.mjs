// Evaluates requests against policies with a published IAM simulator. JSON in, JSON out; it decides nothing.
//
// In: {documents: {name: policy}, requests: [{principal, action, resource, account, context, identity: [name],
// policy: name | null}], mutants: [{name, actions, documents}], keys: [[action, resource, context key]]}.
// Out: {results: [{result, sids, ignored}], survivors: [mutant's name], unknown: [[action, key it never carries]]}.
// A mutant replaces documents, in a statement about some actions; it survives if no request for one of them gets another
// result than before.

import { readFileSync } from "node:fs";
import { allowedContextKeysForRequest, runSimulation } from "@cloud-copilot/iam-simulate";

// The simulator checks requests against AWS's lists and drops context keys it does not find there. A key with a
// variable after a colon is among those. Another string key, which the same calls carry and no policy here uses, stands
// in for it in policies and requests alike.
const STAND_IN = ["kms:EncryptionContext:stele", "kms:EncryptionAlgorithm"];
const text = readFileSync(0, "utf8");
if (text.includes(STAND_IN[1])) throw new Error(`${STAND_IN[1]} stands in for another key and can't be used`);
const input = JSON.parse(text.replaceAll(...STAND_IN));

async function evaluate(request, documents) {
  const answer = await runSimulation(
    {
      identityPolicies: request.identity.map((name) => ({ name, policy: documents[name] })),
      serviceControlPolicies: [],
      resourceControlPolicies: [],
      resourcePolicy: request.policy === null ? undefined : documents[request.policy],
      request: {
        principal: request.principal,
        action: request.action,
        resource: { resource: request.resource, accountId: request.account },
        contextVariables: request.context,
      },
    },
    { simulationMode: "Strict" },
  );
  if (answer.resultType !== "single") {
    throw new Error(`${request.action} on ${request.resource}: ${JSON.stringify(answer.errors ?? answer.resultType)}`);
  }
  const { analysis, ignoredContextKeys } = answer.result;
  const denying = [
    ...(analysis.resourceAnalysis?.denyStatements ?? []),
    ...(analysis.identityAnalysis?.denyStatements ?? []),
  ];
  return {
    result: answer.overallResult,
    sids: denying.map((denied) => denied.statement.sid()).sort(),
    ignored: ignoredContextKeys ?? [],
  };
}

const results = [];
for (const request of input.requests) results.push(await evaluate(request, input.documents));

const survivors = [];
for (const { name, actions, documents } of input.mutants ?? []) {
  const mutated = { ...input.documents, ...documents };
  const about = (action) =>
    actions.some((one) => (one.endsWith("*") ? action.startsWith(one.slice(0, -1)) : action === one));
  const touched = ({ identity, policy, action }) =>
    about(action) && [...identity, policy].some((document) => document in documents);
  let killed = false;
  for (let i = 0; i < input.requests.length && !killed; i++) {
    if (!touched(input.requests[i])) continue;
    killed = (await evaluate(input.requests[i], mutated)).result !== results[i].result;
  }
  if (!killed) survivors.push(name);
}

// A key that an action never carries makes a condition that says nothing, or one that always says no.
const unknown = [];
for (const [action, resource, key] of input.keys ?? []) {
  const carried = await allowedContextKeysForRequest(...action.split(":"), resource, false);
  const fits = (name) => {
    const [fixed, named] = name.split("${");
    return named === undefined ? name === key.toLowerCase() : key.toLowerCase().startsWith(fixed);
  };
  if (!carried.some(fits)) unknown.push([action, key]);
}

process.stdout.write(JSON.stringify({ results, survivors, unknown }));
