"""The keys of the proxy, since there is no database to keep them in."""

import litellm
from litellm.proxy._types import ProxyException, UserAPIKeyAuth

KEYS = {
    "sk-canary-5ca1ab1e-plain": {},
    "sk-canary-5ca1ab1e-narrow": {"rpm_limit": 20},
}


async def user_api_key_auth(request, api_key):
    if api_key == "sk-canary-5ca1ab1e-spent":
        raise litellm.BudgetExceededError(current_cost=0.5, max_budget=0.25)
    if api_key not in KEYS:
        raise ProxyException(message="Invalid proxy server token passed", type="auth_error", param="key", code=401)
    return UserAPIKeyAuth(api_key=api_key, token=api_key, **KEYS[api_key])
