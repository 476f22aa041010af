"""The provider's batch API: submitted, waited for, collected."""
